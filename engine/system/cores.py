"""How many threads this process may keep busy: its affinity mask, its cgroup's quota, its cores.

A machine's core count says little in a container: ``docker run --cpus 2`` sets a quota, a cpuset
an affinity mask, and both leave the count as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

PROC, CPUS = Path("/proc/self"), Path("/sys/devices/system/cpu")


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
    """Processors' worth of time that the cgroups allow, of version 1 or 2; None: no limit.

    Every group on the way up has its own limit; the lowest holds.

    Args:
        proc: The process's folder with ``cgroup`` and ``mountinfo``.
    """
    return min(_quotas(proc), default=None)


def _within(count: int, quota: float | None) -> int:
    return count if quota is None else max(1, min(count, int(quota)))


def _physical_cores(cpus: Iterable[int], folder: Path) -> int:
    """Cores among processors: those that share one name the same siblings."""
    siblings = set()
    for cpu in cpus:
        topology = folder / f"cpu{cpu}" / "topology"
        siblings.add(
            _read(topology / "core_cpus_list")
            or _read(topology / "thread_siblings_list")
            or str(cpu)
        )
    return max(1, len(siblings))


def _quotas(proc: Path) -> Iterator[float]:
    """The limits of all groups that hold the process."""
    groups: dict[str, str] = {}  # controller -> the process's group; "" is version 2
    for line in (_read(proc / "cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), group))
    for mount, root, controller in _mounts(_read(proc / "mountinfo") or ""):
        if controller not in groups:
            continue
        group = groups[controller]
        # in a container the group's path may be the host's, while the mount shows our own
        inside = Path(group).relative_to(root) if Path(group).is_relative_to(root) else Path()
        where = mount / inside
        for folder in (where, *where.parents):
            yield from _quota(folder)
            if folder == mount:
                break


def _mounts(mountinfo: str) -> Iterator[tuple[Path, str, str]]:
    """(mount point, root inside the hierarchy, controller) of those that limit processors."""
    for line in mountinfo.splitlines():
        fields, _, kind = line.partition(" - ")
        _, _, _, root, point, *_ = fields.split(" ")
        match kind.split():
            case ["cgroup2", *_]:
                yield Path(point), root, ""
            case ["cgroup", _, options, *_] if "cpu" in options.split(","):
                yield Path(point), root, "cpu"


def _quota(folder: Path) -> Iterator[float]:
    """One group's limit, where it has one."""
    both = (_read(folder / "cpu.max") or "").split()
    if not both:
        both = [
            _read(folder / "cpu.cfs_quota_us") or "",
            _read(folder / "cpu.cfs_period_us") or "",
        ]
    if len(both) == 2 and all(n.isdigit() and int(n) > 0 for n in both):
        yield int(both[0]) / int(both[1])


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None
