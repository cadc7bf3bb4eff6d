"""The most steps, or the largest batch, whose runs end within a deadline at a percentile."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Literal

from revstep.bench.measure.rounds import next_look
from revstep.bench.stats.percentiles import highest, interval_ranks, lower_rank, supported

PERCENT = 99.0

Fits = Literal["fits", "late", "undecided"]
Timed = Callable[[int], Callable[[], object]]
"""What prepares runs of so many steps, or samples: the call is one run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tried:
    """One number of steps or samples.

    Attributes:
        value: The number.
        verdict: Whether it fits: surely, surely not, or not known after all the time.
        percent: The percentile that was judged: 99, or the highest that so many runs support.
        seconds: That percentile: ``value``, ``low`` and ``high``; None without one.
        runs: How many.
        late: How many of them were.
    """

    value: int
    verdict: Fits
    percent: float | None
    seconds: dict[str, float | None] | None
    runs: int
    late: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


def largest_that_fits(
    timed: Timed,
    deadline_s: float,
    largest: int,
    *,
    seconds: float,
    report: Callable[[Tried], object] = lambda tried: None,
    clock: Callable[[], float] = perf_counter,
) -> tuple[int | None, list[Tried]]:
    """Doubles, then halves: a larger number is taken to be slower.

    Args:
        timed: Prepares the runs of a number.
        deadline_s: Of one run.
        largest: The largest number that can be.
        seconds: Of one number's runs, at most.
        report: Called with each number that was tried.
        clock: Gives seconds.

    Returns:
        The largest number that surely fits (None: not even 1), and all that were tried. What is
        undecided does not count as fitting.
    """
    tried: list[Tried] = []

    def fits(number: int) -> bool:
        found = judged(number, timed(number), deadline_s, seconds, clock)
        tried.append(found)
        report(found)
        return found.verdict == "fits"

    good, step = 0, 1
    while step <= largest and fits(step):
        good, step = step, (min(2 * step, largest) if step < largest else largest + 1)
    bad = min(step, largest + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(middle) else (good, middle)
    return (good or None), tried


def judged(
    number: int,
    run: Callable[[], object],
    deadline_s: float,
    seconds: float,
    clock: Callable[[], float] = perf_counter,
) -> Tried:
    """Runs until the interval of the percentile lies on one side of the deadline, or time is over.

    Too few runs for the 99th percentile are judged at the highest that they support. It is looked
    at ever more rarely: each look is a chance to err.
    """
    run()
    times: list[float] = []
    begun, look, over = clock(), 1, False
    while True:
        while len(times) < look and not over:
            before = clock()
            run()
            times.append(clock() - before)
            over = clock() - begun >= seconds
        look = next_look(look)
        percent = PERCENT if interval_ranks(len(times), PERCENT) else None
        if percent is None and over:
            percent = highest(len(times))
        verdict = _verdict(times, percent, deadline_s)
        if verdict != "undecided" or over:
            break
    found = None if percent is None else supported(times, percent)
    late = sum(time > deadline_s for time in times)
    return Tried(number, verdict, percent, found, len(times), late)


def _verdict(times: Sequence[float], percent: float | None, deadline_s: float) -> Fits:
    """By the interval's ends; its lower one takes few runs, whatever the percentile."""
    order = sorted(times)
    rank = lower_rank(len(order), PERCENT if percent is None else percent)
    if rank is not None and order[rank - 1] > deadline_s:
        return "late"
    ranks = None if percent is None else interval_ranks(len(order), percent)
    return "fits" if ranks is not None and order[ranks[1] - 1] <= deadline_s else "undecided"
