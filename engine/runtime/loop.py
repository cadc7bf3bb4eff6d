"""The loop: a batch from its admission to its end, on any device."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.lane import Lane
from revstep.engine.runtime.watch import Clock, Timing, Watcher

if TYPE_CHECKING:
    from revstep.engine.devices.protocol import Mark


Report = tuple[int, NDArray[np.int32], "NDArray[np.float32] | None", "Mark"]


def run_batch(
    lane: Lane,
    program: StepProgram,
    batch: Batch,
    *,
    lowest_rows: int = 1,
    watcher: Watcher | None = None,
    timing: Timing | None = None,
) -> NDArray[np.float32]:
    """Runs ``program`` on every sample of ``batch``; returns the final states (B, D), float32.

    Steps are enqueued up to ``device.ahead`` beyond the last one reported, and reported when the
    device has done them: every one where somebody wants to know or looking is free, else the last.

    Args:
        lane: The run has it for itself.
        program: The program, the same for all.
        batch: The samples.
        lowest_rows: Network rows of every call, at least.
        watcher: Who follows the steps.
        timing: Filled with the times in and outside the network; steps run call by call then, as
            a graph can't be looked into.
    """
    lane.empty()
    device, step = lane.device, lane.step
    reads_x0 = watcher is not None and watcher.reads_x0
    admitted = lane.admit(program, batch, x0=reads_x0, lowest_rows=lowest_rows)
    try:
        flags = lane.flags(admitted)
        every = watcher is not None and (watcher.every_step or device.ahead == 0)
        clock = None if timing is None else Clock(device)
        waiting: deque[Report] = deque()

        def look(number: int) -> None:
            """Enqueues the copies of what step ``number`` left."""
            x0 = None
            if reads_x0 and watcher is not None and watcher.wants_x0(number):
                x0 = device.download(lane.estimates(admitted))
            waiting.append((number, device.download(flags), x0, device.mark()))

        def report() -> None:
            number, found, x0, mark = waiting.popleft()
            mark.wait()
            if watcher is not None:
                watcher.step_done(number, found, None if x0 is None else x0.copy())

        whole = not every and clock is None and lane.run_unrolled(admitted)
        for number in range(0 if whole else program.length):
            step(clock)
            if every:
                look(number)
                if len(waiting) > device.ahead:
                    report()
        if not every:
            look(program.length - 1)
        states = device.download(lane.states(admitted))
        end = device.mark()
        while waiting:
            report()
        end.wait()
        if clock is not None and timing is not None:
            clock.add_to(timing)
        return states.copy()  # the memory is the device's, or scarce
    finally:
        lane.retire(admitted)
