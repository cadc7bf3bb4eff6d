"""Files written beside and renamed: what has its name is whole."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

PARTIAL = ".tmp"  # how the names of those end that are being written


def write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes to a hidden file in the same folder, on to the disk, and renames it.

    Args:
        path: What it is in the end; one that is there is replaced.
        write: Writes the content.

    Raises:
        OSError: It can't be written; the error names ``path``, and nothing is left.
    """
    try:
        _replace(path, write)
    except OSError as error:  # of the hidden file, if of any; the user knows the other one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
    try:
        with os.fdopen(number, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # mkstemp makes private files; a result is an ordinary one
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
