"""A cell against a deadline, and in a control loop."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from revstep.bench.measure.deadline import PERCENT, Tried, largest_that_fits
from revstep.bench.measure.measure import Work
from revstep.bench.measure.rounds import Progress
from revstep.bench.measure.tick import run_ticks

Find = Literal["steps", "batch"]

MAX_STEPS, MAX_BATCH = 1000, 1024  # that are searched
LEAST_TICKS = 8


def within_deadline(
    work: Work,
    deadline_s: float,
    find: Find,
    *,
    seconds: float,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The most steps, or the largest batch, of which runs surely end within the deadline at p99.

    Args:
        work: The cell; all but what is searched stays.
        deadline_s: Of one run, from the call to its samples.
        find: What is searched.
        seconds: Of each number that is tried, at most.
        progress: Called with (numbers tried, of how many at most).

    Returns:
        ``deadline_s``, ``find``, ``percent``, ``found`` (None: not even 1) and ``tried``.
    """
    spec = work.engine.spec
    largest = min(MAX_BATCH, spec.batch[1]) if find == "batch" else _most_steps(work)
    bound = 2 * largest.bit_length()
    count = 0

    def timed(number: int) -> Any:
        changes: dict[str, Any] = {find: number}
        cell = dataclasses.replace(work.cell, **changes)
        changed = Work.of(work.bundle, cell, work.engine)
        return lambda: changed.sample(0)

    def report(tried: Tried) -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(min(count, bound), bound)

    found, tried = largest_that_fits(timed, deadline_s, largest, seconds=seconds, report=report)
    if progress is not None:
        progress(bound, bound)
    return {
        "deadline_s": deadline_s, "find": find, "percent": PERCENT, "found": found,
        "tried": [each.to_dict() for each in tried],
    }  # fmt: skip


def in_control_loop(work: Work, tick_s: float, seconds: float) -> dict[str, Any]:
    """``Ticks.summary`` of a loop that draws the cell's samples at every tick, for so long."""
    count = max(LEAST_TICKS, round(seconds / tick_s))
    found = run_ticks(work.sample, tick_s, count)
    return {**found.summary(), "latencies_s": list(found.latencies)}


def _most_steps(work: Work) -> int:
    schedule = work.engine.spec.schedule
    return min(MAX_STEPS, work.engine.spec.grid_of().count or schedule.steps)
