"""The loop: a batch from its admission to its end, on any device."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.lane import Admission, Lane
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
    device has done them: every one where somebody wants to know, else the last. The samples stay
    in their slots, so that a batch of the same form begins sooner.

    Args:
        lane: The run has it for itself.
        program: The program, the same for all.
        batch: The samples.
        lowest_rows: Network rows of every call, at least.
        watcher: Who follows the steps.
        timing: Filled with the times in and outside the network; steps run call by call then, as
            a graph can't be looked into.
    """
    reads_x0 = watcher is not None and watcher.reads_x0
    admitted = lane.again(program, batch, x0=reads_x0, lowest_rows=lowest_rows)
    if admitted is None:
        lane.empty()
        admitted = lane.admit(program, batch, x0=reads_x0, lowest_rows=lowest_rows)
    try:
        if timing is None and (watcher is None or not watcher.every_step):
            return _run_through(lane, admitted, watcher)
        return _run_stepwise(lane, admitted, watcher, timing)
    except BaseException:  # the steps of one that failed may still be on their way
        lane.retire(admitted)
        raise


def _run_through(lane: Lane, admitted: Admission, watcher: Watcher | None) -> NDArray[np.float32]:
    """All steps, then one look at them."""
    device = lane.device
    done = lane.run_unrolled(admitted) or lane.run(admitted.program.length)
    flags, states = device.download(lane.flags(admitted)), device.download(lane.states(admitted))
    device.mark().wait()
    if watcher is not None:
        watcher.step_done(done - 1, flags, None)
    return states.copy()  # the memory is the device's, or scarce


def _run_stepwise(
    lane: Lane, admitted: Admission, watcher: Watcher | None, timing: Timing | None
) -> NDArray[np.float32]:
    """Step by step, for who looks at the steps, or at the clock."""
    device, length = lane.device, admitted.program.length
    flags = lane.flags(admitted)
    every = watcher is not None and watcher.every_step
    clock = None if timing is None else Clock(device)
    waiting: deque[Report] = deque()

    def look(number: int) -> None:
        """Enqueues the copies of what step ``number`` left."""
        x0 = None
        if watcher is not None and watcher.reads_x0 and watcher.wants_x0(number):
            x0 = device.download(lane.estimates(admitted))
        waiting.append((number, device.download(flags), x0, device.mark()))

    def report() -> None:
        number, found, x0, mark = waiting.popleft()
        mark.wait()
        if watcher is not None:
            watcher.step_done(number, found, None if x0 is None else x0.copy())

    for number in range(length):
        lane.step(clock)
        if every or number == length - 1:
            look(number)
        if len(waiting) > device.ahead:
            report()
    states = device.download(lane.states(admitted))
    end = device.mark()
    while waiting:
        report()
    end.wait()
    if clock is not None and timing is not None:
        clock.add_to(timing)
    return states.copy()
