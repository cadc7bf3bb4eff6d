"""What a compile leaves in a bundle: entries in the manifest with their files; or the kernels.

Files are written beside their place, renamed, and count once the manifest lists them; a kill
leaves the bundle as it was, and at most files that the next compile removes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.engine.bundle.entry import CPU, CompiledEntry, compiled_entry
from revstep.engine.bundle.layout import COMPILED, KERNELS, MANIFEST, PLANS, file_damage
from revstep.engine.bundle.leftovers import remove_leftovers
from revstep.engine.bundle.manifest import read_manifest
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.writer import described, sync_directory, write_manifest, write_synced
from revstep.engine.errors import CompileError

KEY = re.compile(r"[0-9a-f]{32}|\.[0-9a-f]{32}\.partial")
SAME = ("target", "precision", "device", "batch", "tuned", "part")


def record(bundle: Bundle, entry: CompiledEntry, plan: bytes | None = None) -> None:
    """Adds the entry to the manifest as it is now, if the graphs are still those compiled.

    Args:
        bundle: The bundle as it was opened.
        entry: The entry; it replaces one of the same target, precision, device and batch.
        plan: The bytes of ``entry.file``; None keeps the file that is there.

    Raises:
        CompileError: The bundle was exported anew meanwhile, or can't be written.
    """
    files = {} if plan is None or entry.file is None else {entry.file: plan}
    record_all(bundle, [entry], files)


def record_all(
    bundle: Bundle,
    entries: Sequence[CompiledEntry],
    files: Mapping[str, bytes],
    *,
    instead_of: Callable[[CompiledEntry], bool] = lambda entry: False,
) -> None:
    """Adds several entries in one write of the manifest, as ``record`` adds one.

    Args:
        bundle: The bundle as it was opened.
        entries: The entries; each replaces one of the same target, precision, device and batch.
        files: Path in the bundle -> content, of files that the entries name; the others are there.
        instead_of: Which of the other entries go.

    Raises:
        CompileError: As for ``record``.
    """
    with _changing(bundle, next(iter(files), MANIFEST)) as manifest:
        gone = [
            e
            for e in manifest["engines"]
            if instead_of(compiled_entry(bundle.path, e, manifest["files"]))
        ]
        changed = manifest
        for entry in entries:
            changed = with_entry(changed, entry, gone)
        for name, data in files.items():
            _write_file(bundle.path / name, data)
            changed["files"][name] = described(bundle.path / name)
        write_manifest(bundle.path, changed)


def record_kernels(bundle: Bundle, key: str, work: Path) -> None:
    """Puts compiled kernels into the bundle, in place of those that it has.

    Args:
        bundle: The bundle as it was opened.
        key: Of their content and versions: the folder's name.
        work: Where the files are; they are copied.

    Raises:
        CompileError: As for ``record``.
    """
    folder = bundle.path / KERNELS / key
    with _changing(bundle, f"{KERNELS}{key}") as manifest:
        partial = folder.with_name(f".{key}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        new = {f"{KERNELS}{key}/{f.name}": _copied(f, partial) for f in sorted(work.iterdir())}
        shutil.rmtree(folder, ignore_errors=True)  # of the same key: it was damaged
        os.replace(partial, folder)
        sync_directory(folder.parent)
        kept = {k: v for k, v in manifest["files"].items() if not k.startswith(KERNELS)}
        write_manifest(bundle.path, {**manifest, "files": {**kept, **new}})


@contextlib.contextmanager
def _changing(bundle: Bundle, name: str) -> Iterator[dict[str, Any]]:
    """The manifest as it is now, locked; what it doesn't list afterwards is removed."""
    try:
        with _locked(bundle.path):
            manifest = read_manifest(bundle.path)
            if _exported(manifest) != _exported(bundle.manifest):
                raise CompileError(
                    f"{bundle.path} was exported anew while this compile ran; compile it again"
                )
            remove_leftovers(bundle.path.resolve())
            _remove_unlisted(bundle.path, manifest)
            yield manifest
            _remove_unlisted(bundle.path, read_manifest(bundle.path))
    except OSError as error:
        raise CompileError(
            f"{bundle.path / name} can't be written: {error}; the bundle is unchanged"
        ) from error


def finished(bundle: Bundle, key: str) -> CompiledEntry | None:
    """The entry of that key, if it has a plan and the plan is whole."""
    for entry in (*bundle.compiled, *bundle.compiled_parts):
        if entry.key == key and entry.file is not None:
            known = bundle.manifest["files"][entry.file]
            if not file_damage(bundle.path / entry.file, known):
                return entry
    return None


def with_entry(
    manifest: dict[str, Any], entry: CompiledEntry, gone: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """The manifest with the entry in place of an older one that it supersedes, and of ``gone``."""
    new = entry.to_dict()
    others = [
        e for e in manifest["engines"]
        if any(e.get(n) != new.get(n) for n in SAME) and e not in gone
    ]  # fmt: skip
    listed = {e["file"] for e in (*others, new)}
    files = {k: v for k, v in manifest["files"].items() if k in listed or not k.startswith(PLANS)}
    old = {_figures_name(e) for e in manifest["engines"] if e not in others}
    kept = {k: v for k, v in manifest["parity"].get("figures", {}).items() if k not in old}
    if isinstance(entry.parity, dict):
        kept[_figures_name(new)] = entry.parity
    parity = {**manifest["parity"], "figures": kept}
    return {**manifest, "parity": parity, "files": files, "engines": [*others, new]}


def _figures_name(entry: dict[str, Any]) -> str:
    """``onnxruntime.fp32``; with the key's beginning where several entries share that."""
    name = f"{entry['target']}.{entry['precision']}"
    if part := entry.get("part"):
        name = f"{part}.{name}"
    alone = entry["file"] is None and entry["target"] != CPU
    return name if alone else f"{name}.{entry['key'][:8]}"


def _exported(manifest: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in manifest["files"].items() if not k.startswith(COMPILED)}


def _write_file(file: Path, data: bytes) -> None:
    file.parent.mkdir(exist_ok=True)
    temporary = file.with_name(f".{file.name}.partial")
    try:
        write_synced(temporary, data)
        os.replace(temporary, file)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(file.parent)


def _copied(file: Path, folder: Path) -> dict[str, Any]:
    """Copies a file to the disk; its entry in the manifest."""
    copy = folder / file.name
    write_synced(copy, file.read_bytes())
    return described(copy)


def _remove_unlisted(path: Path, manifest: dict[str, Any]) -> None:
    """Removes plans, graphs and kernels that are superseded, and what a killed compile left."""
    for file in path.glob(f".{MANIFEST}.*"):  # one writer at a time: we hold the lock
        file.unlink(missing_ok=True)
    listed = {name.rsplit("/", 1)[0] for name in manifest["files"]} | set(manifest["files"])
    for file in _inside(path / PLANS):
        ours = file.name.endswith((".plan", ".onnx", ".partial")) and not file.is_dir()
        if ours and f"{PLANS}{file.name}" not in listed:
            file.unlink(missing_ok=True)
    for folder in _inside(path / KERNELS):
        ours = KEY.fullmatch(folder.name) is not None and folder.is_dir()
        if ours and not folder.is_symlink() and f"{KERNELS}{folder.name}" not in listed:
            shutil.rmtree(folder, ignore_errors=True)


def _inside(folder: Path) -> list[Path]:
    return [] if folder.is_symlink() or not folder.is_dir() else list(folder.iterdir())


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
