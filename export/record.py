"""What a compile leaves in a bundle: its entry in the manifest, and its plan, if it has one.

The plan is written beside its place, renamed, and counts once the manifest lists it; a kill
leaves the bundle as it was, and at most a file that the next compile removes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from revstep.engine.bundle import Bundle
from revstep.engine.errors import CompileError
from revstep.engine.manifest import MANIFEST, PLANS, CompiledEntry, file_damage, read_manifest
from revstep.export.writer import described, sync_directory, write_manifest

__all__ = ["finished", "record", "with_entry"]

SAME = ("target", "precision", "device", "batch", "tuned")


def record(bundle: Bundle, entry: CompiledEntry, plan: bytes | None = None) -> None:
    """Adds the entry to the manifest as it is now, if the graphs are still those compiled.

    Args:
        bundle: The bundle as it was opened.
        entry: The entry; it replaces one of the same target, precision, device and batch.
        plan: The bytes of ``entry.file``; None keeps the file that is there.

    Raises:
        CompileError: The bundle was exported anew meanwhile, or can't be written.
    """
    try:
        with _locked(bundle.path):
            manifest = read_manifest(bundle.path)
            if _exported(manifest) != _exported(bundle.manifest):
                raise CompileError(
                    f"{bundle.path} was exported anew while this compile ran; compile it again"
                )
            _remove_unlisted(bundle.path, manifest)
            manifest = with_entry(manifest, entry)
            if plan is not None and entry.file is not None:
                _write_plan(bundle.path / entry.file, plan)
                manifest["files"][entry.file] = described(bundle.path / entry.file)
            write_manifest(bundle.path, manifest)
            _remove_unlisted(bundle.path, manifest)
    except OSError as error:
        raise CompileError(
            f"{bundle.path / (entry.file or MANIFEST)} can't be written: {error}; the bundle is "
            "unchanged"
        ) from error


def finished(bundle: Bundle, key: str) -> CompiledEntry | None:
    """The entry of that key, if it has a plan and the plan is whole."""
    for entry in bundle.compiled:
        if entry.key == key and entry.file is not None:
            known = bundle.manifest["files"][entry.file]
            if not file_damage(bundle.path / entry.file, known):
                return entry
    return None


def with_entry(manifest: dict[str, Any], entry: CompiledEntry) -> dict[str, Any]:
    """The manifest with the entry in place of an older one that it supersedes."""
    new = entry.to_dict()
    others = [e for e in manifest["engines"] if any(e.get(n) != new[n] for n in SAME)]
    listed = {e["file"] for e in (*others, new)}
    files = {k: v for k, v in manifest["files"].items() if k in listed or not k.startswith(PLANS)}
    gone = {_figures_name(e) for e in manifest["engines"] if e not in others}
    kept = {k: v for k, v in manifest["parity"].get("figures", {}).items() if k not in gone}
    if isinstance(entry.parity, dict):
        kept[_figures_name(new)] = entry.parity
    parity = {**manifest["parity"], "figures": kept}
    return {**manifest, "parity": parity, "files": files, "engines": [*others, new]}


def _figures_name(entry: dict[str, Any]) -> str:
    """``onnxruntime.fp32``; with the key's beginning where several engines share that."""
    name = f"{entry['target']}.{entry['precision']}"
    return name if entry["file"] is None else f"{name}.{entry['key'][:8]}"


def _exported(manifest: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in manifest["files"].items() if not k.startswith(PLANS)}


def _write_plan(file: Path, plan: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f".{file.name}.partial")
    try:
        with temporary.open("wb") as stream:
            stream.write(plan)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(file.parent)


def _remove_unlisted(path: Path, manifest: dict[str, Any]) -> None:
    """Removes plans that no entry lists: superseded ones, and what a killed compile left."""
    folder = path / PLANS
    if folder.is_symlink() or not folder.is_dir():
        return
    for file in folder.iterdir():
        ours = file.name.endswith((".plan", ".partial")) and not file.is_dir()
        if ours and f"{PLANS}{file.name}" not in manifest["files"]:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One compile at a time changes a bundle; the lock goes with the process."""
    try:
        import fcntl
    except ImportError:  # not POSIX
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
