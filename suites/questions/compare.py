"""A task beside its baselines: they take turns, and pytest-benchmark times ours."""

from __future__ import annotations

import dataclasses
import resource
from collections.abc import Mapping
from math import ceil
from time import perf_counter, process_time
from typing import Any

from revstep.bench.clock import Task, repeated
from revstep.bench.measure.disturbance import disturbance, read_counters

OURS = "revstep"
ROUND = 2e-3
"""Seconds of a round, at least: a task that takes less is called several times in it."""
MOST = 200
"""Rounds, at most."""


def processor_seconds() -> float:
    """Processor time of this process, all its threads, and its children that have ended.

    Everything here runs on one thread, so on a quiet machine that is what a clock on the wall
    shows; on a busy one, what other processes take isn't in it.
    """
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime


@dataclasses.dataclass(frozen=True)
class Compare:
    """Times a task and its baselines in turns.

    Attributes:
        benchmark: The fixture of pytest-benchmark.
        seconds: Of a case on the wall, about.
        least: Rounds, whatever they take.
    """

    benchmark: Any
    seconds: float
    least: int

    @property
    def trial(self) -> bool:
        """Whether every task runs once and nothing is timed."""
        return bool(self.benchmark.disabled)

    def __call__(
        self,
        name: str,
        ours: Task,
        baselines: Mapping[str, Task],
        *,
        per: int = 1,
        apart: float | None = None,
    ) -> None:
        """Times ``ours``; before each of its rounds every baseline has one, in changing order.

        Args:
            name: Of the case.
            ours: The task.
            baselines: Others that do the same work, by name.
            per: What a call does so often: times are of one.
            apart: How far results were from each other when they were compared.
        """
        if self.trial:
            for task in baselines.values():
                task()
            self.benchmark.pedantic(ours)
            return
        calls = {which: calls_of(task) for which, task in {OURS: ours, **baselines}.items()}
        turns = _Turns({which: repeated(task, calls[which]) for which, task in baselines.items()})
        rounds = self._rounds([ours, *baselines.values()], list(calls.values()))
        before = read_counters()
        self.benchmark.pedantic(
            repeated(ours, calls[OURS]), setup=turns.take, rounds=rounds, warmup_rounds=1
        )
        after = read_counters()
        stats = self.benchmark.stats.stats
        self.benchmark.extra_info |= {
            "case": name,
            "each": {which: count * per for which, count in calls.items()},
            "others": {which: found[1:] for which, found in turns.found.items()},  # a warm-up
            "apart": apart,
            "disturbance": disturbance(before, after, stats.iqr / stats.median),
        }

    def _rounds(self, tasks: list[Task], calls: list[int]) -> int:
        begun = perf_counter()
        for task, count in zip(tasks, calls, strict=True):
            repeated(task, count)()
        took = perf_counter() - begun
        return min(MOST, max(self.least, int(self.seconds / took)))


class _Turns:
    """The baselines' rounds."""

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._tasks = list(tasks.items())
        self.found: dict[str, list[float]] = {name: [] for name in tasks}

    def take(self) -> None:
        """A round of each, in the other order than the last time."""
        for name, task in self._tasks:
            begun = processor_seconds()
            task()
            self.found[name].append(processor_seconds() - begun)
        self._tasks.reverse()


def calls_of(task: Task) -> int:
    """How often a task is called in a round; it is called twice here."""
    task()
    begun = processor_seconds()
    task()
    return max(1, ceil(ROUND / (processor_seconds() - begun + 1e-9)))
