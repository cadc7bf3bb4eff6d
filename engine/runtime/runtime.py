"""``Runtime``: a network with its device and lanes; where an engine's batches run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import (
    CompilesRows,
    Denoiser,
    DeviceDenoiser,
    NetworkBuffers,
)
from revstep.engine.devices.host import HostDevice
from revstep.engine.devices.protocol import CaptureRefused, Device, Graph, Graphs
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.buckets import (
    MAX_PROGRAM_ROWS,
    bucket_for,
    compiled_buckets,
    fine_buckets,
    make_buckets,
    smaller_buckets,
)
from revstep.engine.runtime.lane import Lane
from revstep.engine.runtime.loop import run_batch
from revstep.engine.runtime.pool import Hold, LanePool, OneLane
from revstep.engine.runtime.watch import BatchWatcher, Timing, Watch, Watcher
from revstep.engine.spec.denoiser import DenoiserSpec

RUNS_AT_ONCE = 8
HOST_PROGRAM_ROWS = 256  # of a lane's first arena: five programs of 50 steps, 32 KB


class Runtime:
    """Runs programs on batches of one network. Thread-safe.

    Args:
        denoiser: The network.
        lanes: Where runs happen.
        batch: Smallest and largest number of network rows per call; None: the spec's.

    Attributes:
        spec: The denoiser's, with that batch range.
        before_run: Called before every run: takes up what has changed in a live module, or
            refuses it.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        lanes: LanePool | OneLane,
        *,
        batch: tuple[int, int] | None = None,
    ) -> None:
        self.spec: DenoiserSpec = denoiser.spec
        if batch is not None:
            self.spec = dataclasses.replace(denoiser.spec, batch=batch)
        self._denoiser = denoiser
        self._lanes = lanes
        self.before_run: Callable[[], None] | None = None

    def run(
        self,
        program: StepProgram,
        batch: Batch,
        rows: int,
        *,
        watcher: Watcher | None = None,
        timing: Timing | None = None,
    ) -> NDArray[np.float32]:
        """The final states (B, D) of ``batch``, in network calls of at least ``rows`` rows.

        Args:
            program: The program, the same for all.
            batch: The samples.
            rows: At least ``batch.rows``.
            watcher: Who follows the steps; what it raises ends the run.
            timing: Filled with the times in and outside the network.

        Raises:
            BackendError: ``before_run`` refuses, or the lanes do (``OneLane``).
            CapacityError: The program finds no room in the arena.
            DeviceMemoryError: The device's memory is short; later runs work.
        """
        if self.before_run is not None:
            self.before_run()
        with self._lanes.lend(rows) as lane:
            return run_batch(lane, program, batch, lowest_rows=rows, watcher=watcher, timing=timing)

    def place(self, program: StepProgram, batch: Batch, rows: int) -> None:
        """Puts a batch where ``run`` will find its form; raises as ``run``."""
        if self.before_run is not None:
            self.before_run()
        with self._lanes.lend(rows) as lane:
            lane.empty()
            lane.admit(program, batch, lowest_rows=rows)

    def hold(self, rows: int, *, fixed: bool) -> Hold:
        """What gives a lane for requests that come and go, each time that it is called.

        On the host it is the caller's own, of buckets up to ``rows``; a GPU's one lane is lent
        while its context is entered.

        Args:
            rows: Network rows of the largest call.
            fixed: Whether every call has so many.

        Raises:
            ValueError: ``rows`` is outside the batch range.
        """
        return self._lanes.hold(self.buckets(rows, fixed=fixed))

    def buckets(self, rows: int, *, fixed: bool) -> tuple[int, ...]:
        """The buckets of such a lane, ascending."""
        lowest = self.spec.batch[0]
        make_buckets((lowest, self.spec.batch[1]), (rows,))  # refuses what is outside
        if isinstance(self._lanes, OneLane):
            found = self._lanes.lane.buckets
            largest = bucket_for(found, rows)
            return (largest,) if fixed else tuple(b for b in found if b <= largest)
        if fixed:
            return (rows,)
        if isinstance(self._denoiser, CompilesRows) and self._denoiser.compiles_rows:
            return compiled_buckets((lowest, rows))
        return fine_buckets((lowest, rows))

    def describe(self) -> dict[str, Any]:
        """What runs; plain JSON values."""
        return {**self._denoiser.describe(), **self._lanes.describe()}


def run_batches(
    runtime: Runtime,
    program: StepProgram,
    batch: Batch,
    size: int,
    fixed_rows: int | None,
    *,
    watch: Watch,
    timing: Timing | None = None,
) -> NDArray[np.float32]:
    """The final states (n, *shape) of a request, ``size`` samples at a time.

    Args:
        runtime: Where the batches run.
        program: The program of all samples.
        batch: The samples.
        size: Samples per batch.
        fixed_rows: Rows of every network call, where they are fixed.
        watch: What the caller wants to know of the steps.
        timing: Filled with the times in and outside the network.
    """
    spec, steps = runtime.spec, program.length

    def run(part: Batch, first: int, done: int, total: int) -> NDArray[np.float32]:
        watcher = BatchWatcher(watch, spec.shape, first, steps, done, total)
        rows = fixed_rows or max(part.rows, spec.batch[0])
        x = runtime.run(program, part, rows, watcher=watcher, timing=timing)
        return x.reshape(-1, *spec.shape)

    if batch.n <= size:
        return run(batch, 0, 0, steps)
    starts = range(0, batch.n, size)
    out = np.empty((batch.n, *spec.shape), np.float32)
    for number, first in enumerate(starts):
        part = batch.part(first, first + size)
        out[first : first + size] = run(part, first, number * steps, len(starts) * steps)
    return out


def host_runtime(
    denoiser: Denoiser,
    *,
    buckets: Sequence[int] | None = None,
    runs_at_once: int = RUNS_AT_ONCE,
    prepare: Iterable[int] = (),
) -> Runtime:
    """A network on numpy buffers, in as many lanes as there are runs at the same time.

    Args:
        denoiser: The network.
        buckets: Network rows that calls are padded to; None: none is.
        runs_at_once: Runs at the same time; further ones wait for their turn.
        prepare: Network rows that are bound now, once each, instead of in the first run; as many
            as there are lanes that stay.

    Raises:
        TypeError, ValueError: Buckets of a wrong kind, or outside the spec's batch range.
    """
    chosen = () if buckets is None else make_buckets(denoiser.spec.batch, buckets)
    batch = (denoiser.spec.batch[0], chosen[-1]) if chosen else None
    lanes = LanePool(
        partial(host_lane, denoiser),
        runs_at_once,
        HostDevice().describe_kernels(),
        chosen,
    )
    for rows in sorted(set(prepare))[:runs_at_once]:
        with lanes.lend(rows) as lane:
            lane.prepare(lane.buckets[-1])
    return Runtime(denoiser, lanes, batch=batch)


def host_lane(denoiser: Denoiser, buckets: Sequence[int]) -> Lane:
    """A lane of these buckets on numpy buffers; its arena grows with its programs."""
    network = NetworkBuffers.allocate(denoiser.spec, max(buckets))
    return Lane(
        denoiser,
        buckets,
        HostDevice(),
        network,
        program_rows=HOST_PROGRAM_ROWS,
        arena_grows=True,
    )


def device_runtime(
    denoiser: DeviceDenoiser,
    device: Device,
    *,
    buckets: Sequence[int] | None = None,
    graphs: Graphs | None = None,
    unroll: Sequence[int] = (),
    max_program_rows: int = MAX_PROGRAM_ROWS,
    warm_up: bool = True,
) -> Runtime:
    """A network on a device of its own, in one lane; further threads wait for their turn.

    While graphs are captured, at first or in the first run of a kind, another thread's wait for
    the whole GPU (``torch.cuda.synchronize``) fails: CUDA allows none then. One may wait for a
    stream or an event.

    Args:
        denoiser: The network.
        device: The device.
        buckets: Network rows that are prepared; None: powers of two in the spec's batch range.
        graphs: Captures steps; None: every step is enqueued call by call.
        unroll: Run lengths (network calls) that get a graph of the whole run, used where nobody
            watches the steps.
        max_program_rows: Capacity for the tables of the programs that run at once.
        warm_up: Prepare every bucket now, largest first, instead of when first used.

    Raises:
        BackendError: The step's kernels are missing.
        DeviceMemoryError: The buckets don't fit the device.
        TypeError, ValueError: Buckets of a wrong kind, or outside the spec's batch range.
    """
    spec = denoiser.spec
    chosen = make_buckets(spec.batch, buckets)
    largest = chosen[-1]
    with device.use():
        fix = smaller_buckets(chosen, largest)
        with device.memory_named(f"for {largest} network rows", fix):
            lane = Lane(
                denoiser,
                chosen,
                device,
                NetworkBuffers.allocate(spec, largest, denoiser.dtype, denoiser.device),
                graphs=None if graphs is None else _Capturable(denoiser, graphs),
                unroll=unroll,
                program_rows=max_program_rows,
            )
        for rows in reversed(chosen) if warm_up else ():
            lane.prepare(rows)
    return Runtime(denoiser, OneLane(lane), batch=(spec.batch[0], largest))


def cuda_runtime(
    denoiser: DeviceDenoiser,
    *,
    graphs: bool = True,
    kernels: str = "triton",
    kernels_folder: Path | None = None,
    **options: Any,
) -> Runtime:
    """``device_runtime`` on the denoiser's GPU.

    Args:
        denoiser: The network.
        graphs: Whether steps are captured in CUDA graphs.
        kernels: What runs the step: ``triton``, or ``aot``: the compiled kernels in
            ``kernels_folder``.
        kernels_folder: A bundle's kernels.
        options: As for ``device_runtime``.
    """
    from revstep.engine.devices.cuda import CudaDevice
    from revstep.engine.devices.graphs import CudaGraphs

    device = CudaDevice(denoiser.device, denoiser.stream, kernels=kernels, folder=kernels_folder)
    made = CudaGraphs(device.device) if graphs else None
    return device_runtime(denoiser, device, graphs=made, **options)


class _Capturable(NamedTuple):
    """Graphs of a network's calls, where the network says that they can be captured."""

    denoiser: DeviceDenoiser
    graphs: Graphs

    def capture(self, calls: Sequence[Callable[[], object]]) -> Graph:
        if reason := self.denoiser.capturable:
            raise CaptureRefused(reason)
        return self.graphs.capture(calls)
