"""Writing a bundle: all of it or nothing.

The files go to a hidden directory beside the target, are synced, and are renamed. A kill or a full
disk leaves the old bundle, or none; what a killed run left is removed by the next.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from revstep.engine.bundle.layout import FORMAT, MANIFEST, VERSION, file_digest
from revstep.engine.bundle.leftovers import beside, owned, remove_leftovers
from revstep.engine.bundle.manifest import manifest_digest, read_manifest
from revstep.engine.errors import BundleError, ExportError

AT_FDCWD, RENAME_EXCHANGE = -100, 2


@contextlib.contextmanager
def writing_bundle(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A directory to fill, which becomes the bundle ``path`` when the block ends well.

    Raises:
        ExportError: The target exists (and is no bundle, or ``overwrite`` is off), or writing
            failed; the target is as it was.
    """
    target = Path(path).expanduser().resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        check_target(target, overwrite=overwrite)
        work = beside(target, "partial")
        with owned(work):
            try:
                yield work
                sync_tree(work)
                check_target(target, overwrite=overwrite)
                put_in_place(work, target)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except OSError as error:
        raise _failed(target, error) from error


def seal(work: Path, body: dict[str, Any]) -> None:
    """Writes the manifest over the files in ``work``.

    Args:
        work: The directory, with every other file in it.
        body: The manifest's fields besides ``format``, ``version``, ``files`` and ``digest``.
    """
    files = {
        file.relative_to(work).as_posix(): described(file)
        for file in sorted(work.rglob("*"))
        if file.is_file()
    }
    write_manifest(work, {"format": FORMAT, "version": VERSION, **body, "files": files})


def described(file: Path) -> dict[str, Any]:
    """A file's entry in the manifest."""
    return {"sha256": file_digest(file), "bytes": file.stat().st_size}


def write_manifest(bundle: Path, manifest: dict[str, Any]) -> None:
    """Replaces the bundle's manifest in one rename, with its digest brought up to date."""
    manifest = {**manifest, "digest": manifest_digest(manifest)}
    text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
    temporary = bundle / f".{MANIFEST}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        write_synced(temporary, text.encode())
        os.replace(temporary, bundle / MANIFEST)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(bundle)


def write_synced(file: Path, data: bytes) -> None:
    """Writes a file and brings it to the disk."""
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuses a target that must not be written; called before the slow work too.

    Raises:
        ExportError: It exists and ``overwrite`` is off, or it is something else than a bundle.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise ExportError(f"{target} exists and is a file; a bundle is a directory: name another")
    if not (target / MANIFEST).is_file():
        raise ExportError(
            f"{target} exists, is not empty and is no bundle, so it is not replaced; name another"
        )
    if not overwrite:
        raise ExportError(
            f"{target} exists; pass --overwrite (overwrite=True) to replace it, or name another"
        )
    with contextlib.suppress(BundleError):  # a damaged bundle may be replaced, other data not
        read_manifest(target)
        return
    text = (target / MANIFEST).read_text("utf-8", errors="replace")
    if FORMAT not in text:
        raise ExportError(f"{target} has a {MANIFEST} that is not a bundle's; name another")


def put_in_place(work: Path, target: Path) -> None:
    """Gives a folder its name, in one rename; the one that has it goes to where the new one was."""
    if not target.exists():
        work.rename(target)
    elif not _exchange(work, target):
        old = beside(target, "old")
        target.rename(old)
        try:
            work.rename(target)
        except BaseException:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    sync_directory(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two paths in one system call; False where that does not exist."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    code: int = rename(
        AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), ctypes.c_uint(RENAME_EXCHANGE)
    )
    return code == 0


def sync_tree(root: Path) -> None:
    """Brings a folder's files and names to the disk."""
    for path in (*root.rglob("*"), root):
        if path.is_dir():
            sync_directory(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Brings a directory's names to the disk."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _failed(target: Path, error: OSError) -> ExportError:
    state = "is as it was" if target.exists() else "was not written"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ExportError(
            f"the disk that holds {target.parent} is full; {target} {state}: free some space and "
            "run the command again"
        )
    return ExportError(f"writing {target} failed: {error}; {target} {state}")
