"""A control loop at a fixed rate: which ticks had their samples in time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import groupby
from time import perf_counter, sleep
from typing import Any

from revstep.bench.stats.percentiles import SHOWN, all_supported

SPIN_S = 0.0005  # before a tick: a sleep ends late by so much


@dataclasses.dataclass(frozen=True, slots=True)
class Ticks:
    """What became of a loop's ticks.

    Attributes:
        tick_s: Between two ticks.
        latencies: Seconds from each tick to its samples; None: it was skipped, as an earlier run
            was still going on.
        interrupted: Whether Ctrl-C ended it.
    """

    tick_s: float
    latencies: tuple[float | None, ...]
    interrupted: bool = False

    @property
    def missed(self) -> list[bool]:
        """Of each tick, whether its samples were there before the next one."""
        return [value is None or value > self.tick_s for value in self.latencies]

    def summary(self) -> dict[str, Any]:
        """``ticks``, ``misses``, ``skipped``, ``longest_misses`` in a row, and percentiles."""
        missed = self.missed
        made = [value for value in self.latencies if value is not None]
        runs = [len(list(group)) for late, group in groupby(missed) if late]
        return {
            "tick_s": self.tick_s,
            "interrupted": self.interrupted,
            "ticks": len(missed),
            "misses": sum(missed),
            "skipped": len(missed) - len(made),
            "longest_misses": max(runs, default=0),
            "percentiles": all_supported(made, SHOWN),
        }


def run_ticks(
    run: Callable[[int], object],
    tick_s: float,
    count: int,
    *,
    clock: Callable[[], float] = perf_counter,
    rest: Callable[[float], object] = sleep,
) -> Ticks:
    """Calls ``run`` at every tick, on time; ticks that begin during a run are skipped.

    Ctrl-C ends it with the ticks so far, if there are any: they are ``interrupted``.

    Args:
        run: Called with the tick's number.
        tick_s: Seconds between two ticks.
        count: How many.
        clock: Gives seconds.
        rest: Waits for seconds.
    """
    latencies: list[float | None] = []
    run(0)
    begun = clock() + tick_s
    try:
        while len(latencies) < count:
            due = begun + len(latencies) * tick_s
            _wait(due, clock, rest)
            run(len(latencies))
            ended = clock()
            latencies.append(ended - due)
            going_on = int((ended - due) / tick_s)
            latencies.extend([None] * min(going_on, count - len(latencies)))
    except KeyboardInterrupt:
        if not latencies:
            raise
        return Ticks(tick_s, tuple(latencies), interrupted=True)
    return Ticks(tick_s, tuple(latencies))


def _wait(due: float, clock: Callable[[], float], rest: Callable[[float], object]) -> None:
    left = due - clock()
    if left > SPIN_S:
        rest(left - SPIN_S)
    while clock() < due:
        pass
