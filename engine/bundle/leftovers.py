"""The hidden folders beside a bundle while it is written: who owns one, what killed runs left.

A folder is named after its writer (host, process, start of that process), who holds a lock on it
that the kernel lets go when he dies. A folder whose lock is free is a dead writer's if its host is
this one and the process no longer lives; or if it is another host's (a container's name changes
with every run) and it was left alone for a day, since a network disk may not pass locks on.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

DAY = 24 * 3600.0


def beside(target: Path, suffix: str) -> Path:
    """A name beside ``target`` that is this process's alone."""
    pid = os.getpid()
    owner = f"{_host()}-{pid}-{_started(pid)}-{secrets.token_hex(4)}"
    return target.parent / f".{target.name}.{owner}.{suffix}"


@contextlib.contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Makes the folder, and holds its lock: while the process lives, nobody removes it."""
    folder.mkdir()
    handle, _ = _lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)


def remove_leftovers(target: Path) -> None:
    """Removes what writers of ``target`` left that no living process owns.

    A bundle that was moved aside by one killed between two renames comes back.
    """
    if os.name != "posix":
        return
    owner = r"([A-Za-z0-9_]*)-(\d+)(?:-(\d+))?-[0-9a-f]{8}"
    name = re.compile(re.escape(f".{target.name}.") + owner + r"\.(partial|old)")
    for found in target.parent.iterdir():
        match = name.fullmatch(found.name)
        if match is None or not _abandoned(found, match[1], int(match[2]), match[3]):
            continue
        if match[4] == "old" and not target.exists():
            with contextlib.suppress(OSError):  # another writer was quicker
                found.rename(target)
        else:
            shutil.rmtree(found, ignore_errors=True)


def _abandoned(folder: Path, host: str, pid: int, started: str | None) -> bool:
    handle, held = _lock(folder)
    if handle is not None:
        os.close(handle)
    if held:
        return False
    if host != _host():
        return time.time() - _last_change(folder) > DAY
    return not _alive(pid, started)


def _lock(folder: Path) -> tuple[int | None, bool]:
    """(a handle that holds the folder's lock, whether another process holds it).

    Neither, where the disk has no locks.
    """
    try:
        import fcntl
    except ImportError:  # not POSIX
        return None, False
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None, False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        return None, isinstance(error, BlockingIOError)
    return handle, False


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:32]


def _alive(pid: int, started: str | None) -> bool:
    """Whether that process lives, and is no later one of the same number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    now = _started(pid)
    return started is None or now == 0 or int(started) in (0, now)


def _started(pid: int) -> int:
    """When a process began, in the kernel's ticks since its boot; 0 where that can't be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])  # field 22 of proc(5), after the name
    except (OSError, IndexError, ValueError):
        return 0


def _last_change(folder: Path) -> float:
    """When anything in the folder, or its name, was last changed; now where that can't be read."""
    try:
        found = [path.stat() for path in (folder, *folder.rglob("*"))]
    except OSError:
        return time.time()
    return max(max(one.st_mtime, one.st_ctime) for one in found)
