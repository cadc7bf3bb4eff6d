"""A lane: one queue of a device with its buffers, programs, and prepared steps.

One run at a time. A run writes all slots of its bucket before its first step, so nothing that an
earlier one left, even by failing, can step beside it.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import DeviceDenoiser, NetworkBuffers
from revstep.engine.devices.cuda import Queue, memory_named
from revstep.engine.devices.graphs import CaptureRefused, Graph, Graphs
from revstep.engine.errors import DeviceMemoryError
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.arena import IDLE_ROW, ProgramArena
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.slots import SlotBuffers
from revstep.engine.runtime.step_kernels import PreparedStep, StepKernels
from revstep.kernels import columns as col

if TYPE_CHECKING:
    import torch

__all__ = ["Lane", "Prepared"]

WARM_UPS = 3  # libraries choose algorithms and make workspaces in the first calls
HISTORY_TIERS = (1, 3)  # slots a prepared step has; one covers DDIM, DDPM and DPM-Solver++(2M)

log = logging.getLogger("revstep")


@dataclasses.dataclass(slots=True, eq=False)
class Prepared:
    """All that runs the steps of one bucket.

    Attributes:
        network: The bucket's network buffers.
        kernel: The step over them.
        call: Enqueues the network.
        graph: begin, network and step as a graph; None: they are enqueued one by one.
        unrolled: Run length -> the graph of that many steps, or None: it can't be captured.
    """

    network: NetworkBuffers
    kernel: PreparedStep
    call: Callable[[], None]
    graph: Graph | None = None
    unrolled: dict[int, Graph | None] = dataclasses.field(default_factory=dict)

    @property
    def calls(self) -> tuple[Callable[[], None], ...]:
        """The three parts of a step."""
        return self.kernel.begin, self.call, self.kernel.step

    def advance(self) -> None:
        """Enqueues one step."""
        if self.graph is not None:
            self.graph.replay()
            return
        for call in self.calls:
            call()


class Lane:
    """Buffers, programs and prepared steps on one queue. The queue must be torch's current one.

    Args:
        denoiser: The network.
        buckets: Network rows of each bucket, ascending.
        queue: The denoiser's device's.
        kernels: The step's kernels.
        graphs: Captures steps; None: every step is enqueued call by call.
        program_rows: The arena's capacity.

    Attributes:
        refused: Why nothing is captured, once that is known.
    """

    def __init__(
        self,
        denoiser: DeviceDenoiser,
        buckets: Sequence[int],
        queue: Queue,
        kernels: StepKernels,
        graphs: Graphs | None,
        program_rows: int,
    ) -> None:
        self.buckets = tuple(buckets)
        self.queue = queue
        self.refused: str | None = None
        self._denoiser = denoiser
        self._kernels = kernels
        self._graphs = graphs
        self._prepared: dict[tuple[int, int, bool, bool], Prepared] = {}
        self._bound: dict[int, Callable[[], None]] = {}
        most = self.buckets[-1]
        with memory_named(queue.device, f"for {most} network rows", self._mend(most)):
            self.arena = ProgramArena(queue, program_rows)
            self.network = NetworkBuffers.allocate(
                denoiser.spec, most, denoiser.dtype, queue.device
            )
            self.slots = SlotBuffers(denoiser.spec, most, queue)

    def prepare(
        self, rows: int, history: int = 0, want_x0: bool = False, inpaint: bool = False
    ) -> Prepared:
        """The steps of a bucket; made, warmed up and captured when first asked for.

        Args:
            rows: The bucket.
            history: History slots that the programs need.
            want_x0: Whether steps write the denoised estimate out.
            inpaint: Whether steps write known pixels into the state.

        Raises:
            DeviceMemoryError: Not enough memory.
        """
        tier = next(t for t in HISTORY_TIERS if t >= history)
        key = (rows, tier, want_x0, inpaint)
        if key not in self._prepared:
            with memory_named(
                self.queue.device, f"preparing {rows} network rows", self._mend(rows)
            ):
                self._prepared[key] = self._make(*key)
        return self._prepared[key]

    def unrolled(self, prepared: Prepared, length: int) -> Graph | None:
        """The graph of a whole run of ``length`` steps, or None where it can't be made."""
        if prepared.graph is None:
            return None
        if length not in prepared.unrolled:
            what = f"unrolling {length} steps of {len(prepared.network.t)} network rows"
            mend = "load with fewer lengths in unroll, or with smaller buckets"
            graph = None
            try:
                with memory_named(self.queue.device, what, mend):
                    graph = self._capture(prepared.calls * length)
            except (CaptureRefused, DeviceMemoryError) as error:
                log.warning("%s failed: %s; the steps run one by one instead", what, error)
            prepared.unrolled[length] = graph
        return prepared.unrolled[length]

    def place(self, prepared: Prepared, program: StepProgram, base: int, batch: Batch) -> None:
        """Writes state, network input, conditions and maps for step 0, as ``loop.place`` does."""
        upload = self.queue.upload
        net, total = prepared.network, len(prepared.network.t)
        count, used, guided = len(batch.seeds), batch.rows, batch.guided

        def slots(first: object, rest: object, dtype: Any = np.int32) -> NDArray[Any]:
            values = np.full(total, rest, dtype)
            values[:count] = first
            return values

        uncond = slots(-1, -1)
        uncond[guided] = np.arange(count, used)
        self.slots.place(
            np.arange(total),
            slots(batch.seeds, 0, np.uint64),
            base=slots(base, IDLE_ROW),
            length=slots(program.length, 0),
            guidance=slots(batch.guidance, 1.0, np.float32),
            cond_row=slots(np.arange(count), -1),
            uncond_row=uncond,
        )
        for name, buffer in net.conditions.items():
            null = batch.null_conditions[name]
            spare = np.broadcast_to(null[:1], (total - used, *null.shape[1:]))
            rows = np.concatenate([batch.conditions[name], null[guided], spare])
            buffer.copy_(upload(rows), non_blocking=True)
        if batch.mask is not None and batch.known is not None:
            for buffer, values in zip(self.slots.known, (batch.mask, batch.known), strict=True):
                buffer[:count].copy_(upload(values.reshape(count, -1)), non_blocking=True)
        x = self._initial_state(program, batch)
        flat = net.x.view(total, -1)
        c_in = float(program.table[0, col.C_IN])
        flat[:count].copy_(x if c_in == 1.0 else x * c_in)
        if len(guided):
            index = upload(guided.astype(np.int64))
            flat[count:used].copy_(flat.index_select(0, index))
        flat[used:].zero_()
        net.t.fill_(float(program.table[0, col.TIME]))

    def _initial_state(self, program: StepProgram, batch: Batch) -> torch.Tensor:
        count = len(batch.seeds)
        alpha, sigma = (float(np.float32(v)) for v in program.start)
        x = self.slots.x[:count]
        if batch.noise is None:
            self._kernels.initial_noise(x, self.slots.seed[:count], batch.seeds)
        else:
            x.copy_(self.queue.upload(batch.noise.reshape(count, -1)), non_blocking=True)
        x.mul_(sigma)
        if batch.start is not None and alpha != 0.0:
            x.add_(self.queue.upload(batch.start.reshape(count, -1)).mul_(alpha))
        return x

    def _make(self, rows: int, history: int, want_x0: bool, inpaint: bool) -> Prepared:
        self.slots.clear()  # of the last run: the new step checks the maps it is made with
        new = rows not in self._bound
        network = self.network.first(rows)
        call = self._denoiser.bind(network) if new else self._bound[rows]
        table = self.arena.table
        buffers = self.slots.step_buffers(table, network, history, want_x0, inpaint)
        prepared = Prepared(network, self._kernels.prepare(buffers), call)
        self._warm_up(prepared, WARM_UPS if new else 1)
        self._bound[rows] = call
        if self._graphs is not None and self.refused is None:
            try:
                if reason := self._denoiser.capturable:
                    raise CaptureRefused(reason)
                prepared.graph = self._capture(prepared.calls)
            except CaptureRefused as refusal:
                self.refused = str(refusal)
                log.warning("no CUDA graph was captured: %s; the eager loop runs instead", refusal)
        return prepared

    def _warm_up(self, prepared: Prepared, times: int) -> None:
        """Compiles, loads and chooses all that a run needs, with idle slots: no state moves."""
        one = slice(0, 1)
        seed = np.zeros(1, np.uint64)
        self._kernels.initial_noise(self.slots.x[one], self.slots.seed[one], seed)
        prepared.kernel.warm_up()
        for _ in range(times):
            prepared.advance()
        self.queue.finish()

    def _capture(self, calls: Sequence[Callable[[], None]]) -> Graph:
        assert self._graphs is not None
        try:
            return self._graphs.capture(calls)
        except CaptureRefused:  # another thread breaks one by waiting for the whole GPU: once more
            return self._graphs.capture(calls)

    def _mend(self, rows: int) -> str:
        smaller = [b for b in self.buckets if b < rows] or [1]
        return (
            f"load with smaller buckets, as buckets=({', '.join(map(str, smaller))},), with a "
            "lower precision, or on a GPU with more memory"
        )
