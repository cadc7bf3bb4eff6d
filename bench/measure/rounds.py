"""Rounds of tasks that take turns, until their medians are known or the time is over."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Literal

from revstep.bench.stats.convergence import NOISE, relative_noise
from revstep.engine.errors import ArgumentError

Stopped = Literal["converged", "seconds", "runs", "interrupted"]
Clock = Callable[[], float]
Progress = Callable[[int, int], object]

FIRST_LOOK = 16  # rounds
GROWTH = 1.125  # from look to look: each sorts all values, which takes longer than short runs


@dataclasses.dataclass(frozen=True, slots=True)
class Task:
    """Work that is timed, from the call to its result on the host.

    Attributes:
        name: As rows name it.
        run: Called with the round's number, from 1; 0 is a warm-up.
    """

    name: str
    run: Callable[[int], object]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When rounds end.

    Attributes:
        seconds: No round starts after this time.
        noise: Of the medians, at which they are known: they end then. 0: never.
        least: Rounds that are made whatever the time is.
        runs: Rounds, at most; None: any.
        warm_up: Seconds of uncounted rounds before, one at least.

    Raises:
        ArgumentError: Out of range.
    """

    seconds: float = 30.0
    noise: float = NOISE
    least: int = 8
    runs: int | None = None
    warm_up: float = 0.2

    def __post_init__(self) -> None:
        if not self.seconds > 0.0:
            raise ArgumentError(f"seconds={self.seconds} must be above 0", "seconds")
        if not 0.0 <= self.noise < 1.0:
            raise ArgumentError(f"noise={self.noise} must be at least 0 and below 1", "noise")
        if self.least < 1 or (self.runs is not None and self.runs < self.least):
            raise ArgumentError(
                f"runs={self.runs} must be at least {self.least}, which make a median", "runs"
            )

    def shares(self, openings: int) -> list[Budget]:
        """What each of so many openings has of it, whose warm-up is its own.

        Raises:
            ArgumentError: There are more openings than runs, or none.
        """
        if openings < 1 or (self.runs is not None and openings > self.runs):
            raise ArgumentError(
                f"openings={openings} must be from 1 to the number of runs"
                f"{'' if self.runs is None else f', {self.runs}'}: each has one at least",
                "openings",
            )

        def part(total: int, number: int) -> int:
            return (total + openings - 1 - number) // openings

        return [
            dataclasses.replace(
                self,
                seconds=self.seconds / openings,
                least=max(1, part(self.least, number)),
                runs=None if self.runs is None else part(self.runs, number),
            )
            for number in range(openings)
        ]


@dataclasses.dataclass(frozen=True, slots=True)
class Rounds:
    """What was measured.

    Attributes:
        times: Seconds, a list for each task, one value a round.
        stopped: Why it ended.
        warm_ups: Rounds before, which are not counted.
    """

    times: list[list[float]]
    stopped: Stopped
    warm_ups: int


def run_rounds(
    tasks: Sequence[Task],
    budget: Budget,
    *,
    between: Callable[[int], object] | None = None,
    progress: Progress | None = None,
    clock: Clock = perf_counter,
) -> Rounds:
    """Runs the tasks in turns; who goes first changes with every round.

    Ctrl-C ends it: what was measured is returned, if each task has a round.

    Args:
        tasks: What to time.
        budget: When it ends.
        between: Called untimed after each round, with its number from 1.
        progress: Called with (thousandths of the time that are over, 1000).
        clock: Gives seconds.
    """
    times: list[list[float]] = [[] for _ in tasks]
    warm_ups = _warm_up(tasks, budget, clock)
    begun, number, look = clock(), 0, FIRST_LOOK
    try:
        while (stopped := _over(times, budget, number, clock() - begun, number >= look)) is None:
            look = look if number < look else next_look(number)
            number += 1
            _round(tasks, times, number, clock)
            if between is not None:
                between(number)
            if progress is not None:
                progress(min(999, int(1000 * (clock() - begun) / budget.seconds)), 1000)
    except KeyboardInterrupt:
        whole = min(map(len, times))
        if whole == 0:
            raise
        return Rounds([found[:whole] for found in times], "interrupted", warm_ups)
    if progress is not None:
        progress(1000, 1000)
    return Rounds(times, stopped, warm_ups)


def next_look(number: int) -> int:
    """The count of values at which they are looked at after ``number`` of them."""
    return math.ceil(GROWTH * number)


def _warm_up(tasks: Sequence[Task], budget: Budget, clock: Clock) -> int:
    begun, done = clock(), 0
    while done == 0 or clock() - begun < budget.warm_up:
        for task in tasks:
            task.run(0)
        done += 1
    return done


def _round(tasks: Sequence[Task], times: Sequence[list[float]], number: int, clock: Clock) -> None:
    first = number % len(tasks)
    for index in (*range(first, len(tasks)), *range(first)):
        before = clock()
        tasks[index].run(number)
        times[index].append(clock() - before)


def _over(
    times: Sequence[list[float]], budget: Budget, done: int, passed: float, look: bool
) -> Stopped | None:
    """Why it ends now, if it does; with a ``look`` at the values' noise."""
    if done < budget.least:
        return None
    if budget.runs is not None and done >= budget.runs:
        return "runs"
    if passed >= budget.seconds:
        return "seconds"
    if look and budget.noise > 0.0 and max(map(relative_noise, times)) <= budget.noise:
        return "converged"
    return None
