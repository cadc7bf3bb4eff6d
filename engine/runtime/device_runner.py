"""``CudaRunner``: batches on a GPU, in the buckets' buffers and graphs."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import DeviceDenoiser
from revstep.engine.devices.cuda import Queue, memory_named
from revstep.engine.devices.graphs import Graphs, make_graphs
from revstep.engine.errors import BackendError
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.arena import MAX_PROGRAM_ROWS
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.buckets import bucket_for, make_buckets
from revstep.engine.runtime.device_loop import run_steps
from revstep.engine.runtime.lane import Lane
from revstep.engine.runtime.runner import Observe
from revstep.engine.runtime.step_kernels import StepKernels
from revstep.engine.runtime.timing import Timing
from revstep.engine.system.forks import refuse_forked

__all__ = ["CudaRunner"]


class CudaRunner:
    """Runs batches on a denoiser's device, one at a time; further threads wait for their turn.

    While graphs are captured, at first or in the first run of a kind, another thread's wait for
    the whole GPU (``torch.cuda.synchronize``) fails: CUDA allows none then. One may wait for a
    stream or an event.

    Args:
        denoiser: The network.
        buckets: Network rows that are prepared; None: powers of two in the spec's batch range.
        graphs: Whether steps are captured in CUDA graphs; or what captures them.
        unroll: Run lengths (network calls) that get a graph of the whole run, used where nobody
            watches the steps.
        kernels: ``triton``, or ``aot``: the compiled kernels in ``kernels_folder``.
        kernels_folder: A bundle's kernels.
        max_program_rows: Capacity for the tables of the programs that run at once.
        warm_up: Prepare every bucket now, largest first, instead of when first used.
        queue: The device's queue; None makes one.

    Raises:
        BackendError: The step's kernels are missing.
        DeviceMemoryError: The buckets don't fit the GPU.
        TypeError: Buckets, lengths or graphs of a wrong kind.
        ValueError: Buckets outside the spec's batch range, or an option out of range.
    """

    def __init__(
        self,
        denoiser: DeviceDenoiser,
        *,
        buckets: Sequence[int] | None = None,
        graphs: bool | Graphs = True,
        unroll: Sequence[int] = (),
        kernels: str = "triton",
        kernels_folder: Path | None = None,
        max_program_rows: int = MAX_PROGRAM_ROWS,
        warm_up: bool = True,
        queue: Queue | None = None,
    ) -> None:
        if not isinstance(graphs, bool) and not hasattr(graphs, "capture"):
            raise TypeError(f"graphs must be True or False; got {graphs!r}")
        spec = denoiser.spec
        chosen = make_buckets(spec.batch, buckets)
        self.spec = dataclasses.replace(spec, batch=(spec.batch[0], chosen[-1]))
        self._unroll = frozenset(_check_unroll(unroll))
        self._denoiser = denoiser
        self._graphs = graphs is not False
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: int | None = None  # which holds the lock
        self._queue = queue or Queue(denoiser.device, denoiser.stream)
        self._kernels = StepKernels(self._queue, kernels, kernels_folder)
        maker = graphs if not isinstance(graphs, bool) else None
        with self._queue.use():
            if graphs is True:
                maker = make_graphs(self._queue)
            self._lane = Lane(denoiser, chosen, self._queue, self._kernels, maker, max_program_rows)
            for rows in reversed(chosen) if warm_up else ():
                self._lane.prepare(rows)
            self._queue.finish()

    def run(
        self,
        program: StepProgram,
        batch: Batch,
        rows: int,
        *,
        observe: Observe | None = None,
        want_x0: bool = False,
        timing: Timing | None = None,
    ) -> NDArray[np.float32]:
        """See ``Runner.run``; with ``timing``, the steps run call by call.

        Raises:
            BackendError: It is called from a callback of a run of the same engine, or in a child
                that was forked from the engine's process.
            CapacityError: The program finds no room in the arena.
            DeviceMemoryError: The GPU's memory is short; later runs work.
        """
        refuse_forked(self._process, str(self._queue.device))
        me = threading.get_ident()
        if self._thread == me:
            raise BackendError(
                "this engine runs one batch at a time, and its own callback asks for another; "
                "sample after the run, or load a second engine for the callback"
            )
        lane, count = self._lane, len(batch.seeds)
        bucket = bucket_for(lane.buckets, max(rows, batch.rows))
        mend = "use a smaller batch_size, or load with a lower precision"
        with self._hold(me), self._queue.use():
            inpaint = batch.mask is not None
            prepared = lane.prepare(bucket, program.history, want_x0, inpaint)
            with memory_named(self._queue.device, f"in a run of {bucket} network rows", mend):
                with lane.arena.lend(program) as base:
                    lane.place(prepared, program, base, batch)
                    x = run_steps(
                        lane,
                        prepared,
                        program.length,
                        count,
                        observe=observe,
                        want_x0=want_x0,
                        unroll=program.length in self._unroll,
                        timing=timing,
                    )
                return x.numpy().copy()  # callers may keep it; pinned memory is scarce

    @contextlib.contextmanager
    def _hold(self, thread: int) -> Iterator[None]:
        with self._lock:
            self._thread = thread
            try:
                yield
            finally:
                self._thread = None

    def describe(self) -> dict[str, Any]:
        """Backend, kernels, buckets, and whether steps run as graphs."""
        graphs = "on" if self._graphs else "off"
        if self._lane.refused is not None:
            graphs = f"refused: {self._lane.refused}"
        return {
            **self._denoiser.describe(),
            "kernels": self._kernels.describe(),
            "buckets": list(self._lane.buckets),
            "graphs": graphs,
            "unrolled": sorted(self._unroll),
        }


def _check_unroll(lengths: Sequence[int]) -> Sequence[int]:
    if isinstance(lengths, int):
        raise TypeError(f"unroll is a sequence of run lengths, as ({lengths},); got {lengths!r}")
    for length in lengths:
        if isinstance(length, bool) or not isinstance(length, int) or length < 1:
            raise ValueError(f"unroll holds run lengths of at least 1; got {length!r}")
    return lengths
