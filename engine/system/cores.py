"""How many threads this process may keep busy: its affinity mask, its cgroup's quota, its cores.

A machine's core count says little in a container: ``docker run --cpus 2`` sets a quota, a cpuset
an affinity mask, and both leave the count as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from revstep.engine.system.cgroups import PROC, group_folders, read_text

CPUS = Path("/sys/devices/system/cpu")


def usable_threads() -> int:
    """Threads worth starting for computation: one a physical core that the process may use.

    At most the quota, rounded down: a thread beyond it makes all wait, as they wait for each other.
    """
    cores = _physical_cores(allowed_cpus(), CPUS)
    return _within(cores, cpu_quota())


def usable_cpus() -> int:
    """Processors that the process may keep busy, hyperthreads among them."""
    return _within(len(allowed_cpus()), cpu_quota())


def allowed_cpus() -> frozenset[int]:
    """The processors that the affinity mask allows, by number; where there is none, all."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cpu_quota(proc: Path = PROC) -> float | None:
    """Processors' worth of time that the cgroups allow; None: no limit.

    Args:
        proc: As ``group_folders`` takes it.
    """
    found = (quota for folder in group_folders("cpu", proc) for quota in _quota(folder))
    return min(found, default=None)


def _within(count: int, quota: float | None) -> int:
    return count if quota is None else max(1, min(count, int(quota)))


def _physical_cores(cpus: Iterable[int], folder: Path) -> int:
    """Cores among processors: those that share one name the same siblings."""
    siblings = set()
    for cpu in cpus:
        topology = folder / f"cpu{cpu}" / "topology"
        siblings.add(
            read_text(topology / "core_cpus_list")
            or read_text(topology / "thread_siblings_list")
            or str(cpu)
        )
    return max(1, len(siblings))


def _quota(folder: Path) -> Iterator[float]:
    """One group's limit, where it has one."""
    both = (read_text(folder / "cpu.max") or "").split()
    if not both:
        both = [
            read_text(folder / "cpu.cfs_quota_us") or "",
            read_text(folder / "cpu.cfs_period_us") or "",
        ]
    if len(both) == 2 and all(n.isdigit() and int(n) > 0 for n in both):
        yield int(both[0]) / int(both[1])
