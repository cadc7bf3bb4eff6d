"""A lane: one queue of a device with its buffers, programs, and prepared steps.

One run at a time. Between runs all slots are idle, so a network can be warmed up and captured
without touching anybody's state.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from revstep.engine.cuda.arena import ProgramArena
from revstep.engine.cuda.buffers import DeviceNetworkBuffers, SlotBuffers
from revstep.engine.cuda.device import Queue, memory_named
from revstep.engine.cuda.step_kernels import PreparedStep, StepKernels
from revstep.engine.graphs import CaptureRefused, Graph, Graphs
from revstep.engine.loop import Batch
from revstep.engine.program import StepProgram
from revstep.engine.spec import DenoiserSpec
from revstep.kernels import columns as col

if TYPE_CHECKING:
    import torch

__all__ = ["DeviceDenoiser", "Lane", "Prepared"]

WARM_UPS = 3  # libraries choose algorithms and make workspaces in the first calls
HISTORY_TIERS = (1, 3)  # slots a prepared step has; one covers DDIM, DDPM and DPM-Solver++(2M)

EAGER = "eager loop runs"

log = logging.getLogger("revstep")


class DeviceDenoiser(Protocol):
    """A network on a torch device."""

    @property
    def spec(self) -> DenoiserSpec:
        """The denoiser's spec."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of x and the output."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    @property
    def capturable(self) -> str | None:
        """None, or why its calls can't be captured in a CUDA graph."""
        ...

    def bind(self, buffers: DeviceNetworkBuffers) -> Callable[[], None]:
        """A call that enqueues the network on torch's current stream, and waits for nothing."""
        ...

    def describe(self) -> dict[str, Any]:
        """What runs: backend, version, device, precision."""
        ...


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

    network: DeviceNetworkBuffers
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
        self._prepared: dict[tuple[int, int, bool], Prepared] = {}
        self._bound: dict[int, tuple[DeviceNetworkBuffers, Callable[[], None]]] = {}
        most = self.buckets[-1]
        with memory_named(queue.device, f"for {most} network rows", self._mend(most)):
            self.arena = ProgramArena(queue, program_rows)
            self.network = DeviceNetworkBuffers.allocate(
                denoiser.spec, most, denoiser.dtype, queue.device
            )
            self.slots = SlotBuffers(denoiser.spec, most, queue)

    def prepare(self, rows: int, history: int = 0, want_x0: bool = False) -> Prepared:
        """The steps of a bucket; made, warmed up and captured when first asked for.

        Args:
            rows: The bucket.
            history: History slots that the programs need.
            want_x0: Whether steps write the denoised estimate out.

        Raises:
            DeviceMemoryError: Not enough memory; nothing is kept of the attempt.
        """
        tier = next(t for t in HISTORY_TIERS if t >= history)
        key = (rows, tier, want_x0)
        if key not in self._prepared:
            with memory_named(
                self.queue.device, f"preparing {rows} network rows", self._mend(rows)
            ):
                self._prepared[key] = self._make(*key)
        return self._prepared[key]

    def unrolled(self, prepared: Prepared, length: int) -> Graph | None:
        """The graph of a whole run of ``length`` steps, or None where nothing can be captured."""
        if prepared.graph is None:
            return None
        if length not in prepared.unrolled:
            rows = len(prepared.network.t)
            mend = "load with fewer lengths in unroll, or with smaller buckets"
            with memory_named(self.queue.device, f"unrolling {length} steps of {rows} rows", mend):
                calls = prepared.calls * length
                prepared.unrolled[length] = self._capture(calls, "steps run one by one")
        return prepared.unrolled[length]

    def place(self, prepared: Prepared, program: StepProgram, base: int, batch: Batch) -> None:
        """Writes state, network input, conditions and maps for step 0, as ``loop.place`` does."""
        upload = self.queue.upload
        net, total = prepared.network, len(prepared.network.t)
        count, used, guided = len(batch.seeds), batch.rows, batch.guided
        uncond = np.full(count, -1)
        uncond[guided] = np.arange(count, used)
        self.slots.place(
            np.arange(count),
            batch.seeds,
            base=base,
            length=program.length,
            guidance=batch.guidance,
            cond_row=np.arange(count),
            uncond_row=uncond,
        )
        for name, buffer in net.conditions.items():
            null = batch.null_conditions[name]
            spare = np.broadcast_to(null[:1], (total - used, *null.shape[1:]))
            rows = np.concatenate([batch.conditions[name], null[guided], spare])
            buffer.copy_(upload(rows), non_blocking=True)
        x = self._initial_state(program, batch)
        flat = net.x.view(total, -1)
        c_in = float(program.table[0, col.C_IN])
        flat[:count].copy_(x if c_in == 1.0 else x * c_in)
        if len(guided):
            index = upload(guided.astype(np.int64))
            flat[count:used].copy_(flat.index_select(0, index))
        flat[used:].zero_()
        net.t.fill_(float(program.table[0, col.TIME]))

    def retire(self, count: int) -> None:
        """Makes the first slots idle again, after all work that was enqueued for them."""
        self.slots.clear(np.arange(count))

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

    def _make(self, rows: int, history: int, want_x0: bool) -> Prepared:
        if rows not in self._bound:
            network = self.network.first(rows)
            self._bound[rows] = network, self._denoiser.bind(network)
        network, call = self._bound[rows]
        buffers = self.slots.step_buffers(self.arena.table, network, history, want_x0)
        prepared = Prepared(network, self._kernels.prepare(buffers), call)
        prepared.kernel.warm_up()
        if self._graphs is not None and self.refused is None:
            for _ in range(WARM_UPS):
                prepared.advance()
            self.queue.finish()
            if reason := self._denoiser.capturable:
                self._refuse(reason, EAGER)
            else:
                prepared.graph = self._capture(prepared.calls, EAGER)
        return prepared

    def _capture(self, calls: Sequence[Callable[[], None]], instead: str) -> Graph | None:
        assert self._graphs is not None
        try:
            return self._graphs.capture(calls)
        except CaptureRefused as refusal:
            self._refuse(str(refusal), instead)
            return None

    def _refuse(self, reason: str, instead: str) -> None:
        self.refused = reason
        log.warning("no CUDA graph was captured: %s; the %s instead", reason, instead)

    def _mend(self, rows: int) -> str:
        smaller = [b for b in self.buckets if b < rows] or [1]
        return (
            f"load with smaller buckets, as buckets=({', '.join(map(str, smaller))},), with a "
            "lower precision, or on a GPU with more memory"
        )
