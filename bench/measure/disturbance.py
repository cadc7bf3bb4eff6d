"""Whether the machine was fit to measure on: what else ran, and whether it was throttled."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from revstep.bench.measure.gpu import clocks_of

STAT = Path("/proc/stat")
THROTTLES = "/sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count"
OTHERS = 0.1  # of the processors, busy with other processes: what counts as noise
STEAL = 0.01  # of the time, taken by a hypervisor
SPREAD = 0.1  # interquartile range over the median, of the runs
SLOW_CLOCK = 0.75  # of a GPU's highest clock
IDLE, CHOSEN = 0x1, 0x2  # reasons that are no throttling: nothing to do, a clock that was set


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """Counters at one moment.

    Attributes:
        wall_s, own_s: The clock, and this process's and its children's processor time.
        busy_s, steal_s: All processors' time with any process, and stolen; None: unknown.
        throttles: Of the processors, since the machine's start; None: unknown.
        gpu: Clock, highest clock and throttle reasons of the one that is used; None: none is, or
            nothing says.
    """

    wall_s: float
    own_s: float
    busy_s: float | None
    steal_s: float | None
    throttles: int | None
    gpu: tuple[float, float, int] | None = None


def read_counters(gpu: int | None = None) -> Reading:
    """The counters now; of a GPU too, by CUDA's number."""
    busy, steal = _processors()
    children = os.times()
    own = process_time() + children.children_user + children.children_system
    clocks = None if gpu is None else clocks_of(gpu)
    return Reading(perf_counter(), own, busy, steal, _throttles(), clocks)


def disturbance(before: Reading, after: Reading, spread: float) -> dict[str, Any]:
    """What disturbed a measurement between two readings.

    Args:
        before: The first reading.
        after: The second.
        spread: Of the runs: interquartile range over the median.

    Returns:
        ``verdict``: ``quiet``, ``noisy`` or ``throttled``; ``reasons``, a sentence each; and the
        figures ``others`` and ``steal``, shares of all processors' time, or None.
    """
    wall, cores = max(after.wall_s - before.wall_s, 1e-9), os.cpu_count() or 1
    others = steal = None
    if None not in (before.busy_s, after.busy_s, before.steal_s, after.steal_s):
        assert after.busy_s is not None
        assert before.busy_s is not None
        assert after.steal_s is not None
        assert before.steal_s is not None
        own = after.own_s - before.own_s
        others = max(0.0, after.busy_s - before.busy_s - own) / wall / cores
        steal = (after.steal_s - before.steal_s) / wall / cores
    noisy, throttled = [], _throttled(before, after)
    if others is not None and others > OTHERS:
        noisy.append(f"other processes kept {others:.0%} of the {cores} processors busy")
    if steal is not None and steal > STEAL:
        noisy.append(f"the hypervisor took {steal:.0%} of the processors' time")
    if spread > SPREAD:
        noisy.append(f"the middle half of the runs spreads over {spread:.0%} of their median")
    verdict = "throttled" if throttled else "noisy" if noisy else "quiet"
    return {"verdict": verdict, "reasons": [*throttled, *noisy], "others": others, "steal": steal}


def from_first_to_last(readings: Sequence[tuple[Reading, Reading]]) -> tuple[Reading, Reading]:
    """Those of several measurements as one, whose GPU was as throttled as after the worst of them.

    Args:
        readings: Before and after each, in the order of time; one at least.
    """
    (before, _), (_, after) = readings[0], readings[-1]
    seen = [each.gpu for _, each in readings if each.gpu is not None]
    slowed = [gpu for gpu in seen if _slow(*gpu)]
    worst = min(slowed, key=lambda gpu: gpu[0]) if slowed else after.gpu
    return before, dataclasses.replace(after, gpu=worst)


def _slow(clock: float, highest: float, reasons: int) -> str:
    """Why a GPU was throttled; empty where it was not."""
    if reasons & ~(IDLE | CHOSEN):
        return f"the GPU was throttled to {clock:.0f} of {highest:.0f} MHz (reasons {reasons:#x})"
    if clock < SLOW_CLOCK * highest and not reasons:
        return f"the GPU ran at {clock:.0f} of {highest:.0f} MHz"
    return ""


def _throttled(before: Reading, after: Reading) -> list[str]:
    found = []
    if before.throttles is not None and after.throttles is not None:
        count = after.throttles - before.throttles
        if count > 0:
            found.append(f"the processors were throttled {count} times")
    if after.gpu is not None and (why := _slow(*after.gpu)):
        found.append(why)
    return found


def _processors() -> tuple[float | None, float | None]:
    """(busy, stolen) seconds of all processors since the start."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        line = STAT.read_text(encoding="ascii").partition("\n")[0].split()
        ticks = [int(text) / os.sysconf("SC_CLK_TCK") for text in line[1:9]]
        user, nice, system, _, _, irq, soft, steal = ticks
        return user + nice + system + irq + soft, steal
    return None, None


def _throttles() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        files = list(Path("/").glob(THROTTLES.lstrip("/")))
        return sum(int(file.read_text(encoding="ascii")) for file in files) if files else None
    return None
