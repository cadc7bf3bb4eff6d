"""Times: of whole runs and of many calls by the wall clock, of single calls by CUDA events.

Tasks that are compared take turns, so that a busy machine slows all of them; medians count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any

Task = Callable[[], object]
Tasks = Sequence[Task]
Times = list[list[float]]
"""Seconds, one list per task, one value per round."""

FLUSH_BYTES = 256 << 20


def rounds(seconds: float, minimum: int, maximum: int) -> Iterator[int]:
    """Numbers of rounds, from 0; none starts after ``seconds``, but ``minimum`` are made."""
    begun = perf_counter()
    for number in range(maximum):
        if number >= minimum and perf_counter() - begun >= seconds:
            return
        yield number


def run_times(
    tasks: Tasks,
    *,
    seconds: float,
    minimum: int = 5,
    maximum: int = 100,
    synchronize: Task = lambda: None,
) -> Times:
    """Wall seconds of each task, in turns, with the device idle before and after.

    Args:
        tasks: What to time; each has run before.
        seconds: No round starts after this time.
        minimum: Rounds that are made even after that.
        maximum: The largest number of rounds.
        synchronize: Waits for the device.
    """
    times: Times = [[] for _ in tasks]
    for _ in rounds(seconds, minimum, maximum):
        for task, found in zip(tasks, times, strict=True):
            synchronize()
            begun = perf_counter()
            task()
            synchronize()
            found.append(perf_counter() - begun)
    return times


def call_times(tasks: Tasks, count: int, seconds: float = 0.02) -> Times:
    """Wall seconds per call of tasks that take microseconds, each called many times per round.

    Args:
        tasks: What to time; each is called twice first, uncounted.
        count: Rounds.
        seconds: About how long a task runs in a round.
    """
    calls = []
    for task in tasks:
        task()
        begun = perf_counter()
        task()
        calls.append(max(1, int(seconds / (perf_counter() - begun + 1e-9))))
    each = [repeated(task, n) for task, n in zip(tasks, calls, strict=True)]
    found = run_times(each, seconds=0.0, minimum=count, maximum=count)
    return [[t / n for t in times] for times, n in zip(found, calls, strict=True)]


def repeated(task: Task, calls: int) -> Task:
    """The task, called so often."""

    def run() -> None:
        for _ in range(calls):
            task()

    return run


def event_times(
    tasks: Tasks, count: int, *, before: Task | None = None, warm_ups: int = 5
) -> Times:
    """Device seconds of each task's calls on torch's current stream, without waiting in between.

    Args:
        tasks: What to time.
        count: Rounds.
        before: Called before each call, untimed: ``l2_flush``.
        warm_ups: Calls of each task first, uncounted.
    """
    import torch

    for task in tasks:
        for _ in range(warm_ups):
            task()
    torch.cuda.synchronize()
    marks = [[_between_events(task, before) for task in tasks] for _ in range(count)]
    torch.cuda.synchronize()
    return [[a.elapsed_time(b) * 1e-3 for a, b in column] for column in zip(*marks, strict=True)]


def _between_events(task: Task, before: Task | None) -> tuple[Any, Any]:
    import torch

    event: Any = torch.cuda.Event
    begun, ended = event(enable_timing=True), event(enable_timing=True)
    if before is not None:
        before()
    begun.record()
    task()
    ended.record()
    return begun, ended


def l2_flush(device: Any) -> Task:
    """Writes more than the L2 cache of a CUDA device holds: the next call finds nothing there.

    It also keeps the device busy while the host enqueues that call and its events.
    """
    import torch

    cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)
    size = max(FLUSH_BYTES, 4 * int(cache))
    return torch.empty(size, dtype=torch.int8, device=device).zero_


def nearest_rank(count: int, percent: int) -> int:
    """Index of a percentile among ``count`` sorted values: one that was measured."""
    return -(-percent * count // 100) - 1


def percentiles(times: Sequence[float], unit: float = 1e6) -> dict[str, float]:
    """p20, p50 and p80 by nearest rank, times ``unit`` (microseconds), and how many there are."""
    order = sorted(times)
    found = {f"p{p}": order[nearest_rank(len(order), p)] * unit for p in (20, 50, 80)}
    return {**found, "rounds": len(order)}
