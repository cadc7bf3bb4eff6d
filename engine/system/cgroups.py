"""The control groups that hold this process, which limit what it may use of the machine.

A container is such a group: ``docker run --cpus 2 --memory 4g``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

PROC = Path("/proc/self")


def group_folders(controller: str, proc: Path = PROC) -> Iterator[Path]:
    """The folders of all groups that hold the process, of version 1 or 2, from its own upwards.

    Every group on the way up has its own limit; the lowest holds.

    Args:
        controller: What is limited: ``cpu`` or ``memory``.
        proc: The process's folder with ``cgroup`` and ``mountinfo``.
    """
    groups: dict[str, str] = {}  # controller -> the process's group; "" is version 2
    for line in (read_text(proc / "cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), group))
    for mount, root, limits in _mounts(read_text(proc / "mountinfo") or "", controller):
        if limits not in groups:
            continue
        group = groups[limits]
        # in a container the group's path may be the host's, while the mount shows our own
        inside = Path(group).relative_to(root) if Path(group).is_relative_to(root) else Path()
        where = mount / inside
        for folder in (where, *where.parents):
            yield folder
            if folder == mount:
                break


def read_text(file: Path) -> str | None:
    """What a file of the system says, without space around it; None: it can't be read."""
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _mounts(mountinfo: str, controller: str) -> Iterator[tuple[Path, str, str]]:
    """(mount point, root inside the hierarchy, controller) of those that limit it."""
    for line in mountinfo.splitlines():
        fields, _, kind = line.partition(" - ")
        _, _, _, root, point, *_ = fields.split(" ")
        match kind.split():
            case ["cgroup2", *_]:
                yield Path(point), root, ""
            case ["cgroup", _, options, *_] if controller in options.split(","):
                yield Path(point), root, controller
