"""Files that only save time, in the user's cache directory: timings, compiled kernels."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

NO_CACHE = (OSError, RuntimeError)  # the latter where the user has no home folder


def cache_dir() -> Path:
    """The directory: ``$XDG_CACHE_HOME/revstep``, or ``~/.cache/revstep``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "revstep"


def read_cache(kind: str, key: str) -> bytes | None:
    """What ``write_cache`` kept, or None."""
    try:
        file = _cache_file(kind, key)
        data = file.read_bytes()
    except NO_CACHE:
        return None
    with contextlib.suppress(OSError):
        os.utime(file)  # for ``trim_cache``
    return data


def write_cache(kind: str, key: str, data: bytes) -> None:
    """Keeps bytes in the user's cache, in one rename; a cache that can't be written is none."""
    with contextlib.suppress(*NO_CACHE):
        file = _cache_file(kind, key)
        temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            temporary.write_bytes(data)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


def trim_cache(kind: str, limit: int) -> None:
    """Removes what was used longest ago, until the files of this kind have ``limit`` bytes."""
    with contextlib.suppress(*NO_CACHE):
        files = []
        for file in (cache_dir() / kind).iterdir():
            with contextlib.suppress(OSError):  # another process removes them too
                found = file.stat()
                files.append((found.st_mtime, found.st_size, file))
        total = sum(size for _, size, _ in files)
        for _, size, file in sorted(files):
            if total <= limit:
                return
            file.unlink(missing_ok=True)
            total -= size


def _cache_file(kind: str, key: str) -> Path:
    return cache_dir() / kind / hashlib.sha256(key.encode()).hexdigest()[:32]
