"""Times: device time of single calls by CUDA events, wall time of whole runs; always in turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from suites.gpu.context import Run

__all__ = ["L2Flush", "call_times", "percentiles", "run_times"]

Task = Callable[[], object]
FLUSH_BYTES = 256 << 20


class L2Flush:
    """Writes more than the L2 cache holds, so that the next call finds nothing of its own there.

    It also keeps the device busy while the host enqueues that call and its events.
    """

    def __init__(self, run: Run) -> None:
        import torch

        size = 1 << 10
        if run.on_gpu:
            cache = getattr(torch.cuda.get_device_properties(run.device), "L2_cache_size", 0)
            size = max(FLUSH_BYTES, 4 * int(cache))
        self._bytes = torch.empty(size, dtype=torch.int8, device=run.device)

    def __call__(self) -> None:
        """Enqueues the writing."""
        self._bytes.zero_()


def call_times(
    run: Run, tasks: Sequence[Task], rounds: int, flush: L2Flush | None = None, warm_ups: int = 5
) -> list[list[float]]:
    """Device seconds of each task's calls, one list a task; the tasks take turns.

    On torch's current stream, without waiting between calls.
    """
    for task in tasks:
        for _ in range(run.pick(warm_ups, 1)):
            task()
    run.synchronize()
    times: list[list[float]] = [[] for _ in tasks]
    if not run.on_gpu:
        for _ in range(rounds):
            for task, found in zip(tasks, times, strict=True):
                begun = perf_counter()
                task()
                found.append(perf_counter() - begun)
        return times
    marks = [[_timed(task, flush) for task in tasks] for _ in range(rounds)]
    run.synchronize()
    for each in marks:
        for (begun, ended), found in zip(each, times, strict=True):
            found.append(begun.elapsed_time(ended) * 1e-3)
    return times


def _timed(task: Task, flush: L2Flush | None) -> tuple[Any, Any]:
    import torch

    event: Any = torch.cuda.Event
    begun, ended = event(enable_timing=True), event(enable_timing=True)
    if flush is not None:
        flush()
    begun.record()
    task()
    ended.record()
    return begun, ended


def run_times(
    run: Run, tasks: Sequence[Task], *, seconds: float, least: int = 5, most: int = 100
) -> list[list[float]]:
    """Wall seconds of each task, one list a task, in turns, with the device idle before and after.

    Args:
        run: The section's run.
        tasks: What to time; each has run before.
        seconds: No round starts after this time.
        least: Rounds at least.
        most: Rounds at most.
    """
    times: list[list[float]] = [[] for _ in tasks]
    least, most = run.pick(least, 1), run.pick(most, 1)
    begun = perf_counter()
    for number in range(most):
        if number >= least and perf_counter() - begun > seconds:
            break
        for task, found in zip(tasks, times, strict=True):
            run.synchronize()
            at = perf_counter()
            task()
            run.synchronize()
            found.append(perf_counter() - at)
    return times


def percentiles(times: Sequence[float], unit: float = 1e6) -> dict[str, float]:
    """p20, p50 and p80 by nearest rank, times ``unit`` (microseconds), and how many there are."""
    order = sorted(times)
    found = {f"p{p}": order[-(-p * len(order) // 100) - 1] * unit for p in (20, 50, 80)}
    return {**found, "rounds": len(order)}
