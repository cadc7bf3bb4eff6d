"""``compile_bundle``: a bundle's graph made ready for one runtime, checked before it counts."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.bundle import Bundle
from revstep.engine.decoder import LatentDecoder
from revstep.engine.denoiser import Denoiser
from revstep.engine.errors import CompileError
from revstep.engine.manifest import MANIFEST, PRECISIONS, CompiledEntry, read_manifest
from revstep.export.parity import STEPS, Bounds, check_decoder_parity, check_parity, resolve_bounds
from revstep.export.progress import Progress, Stages
from revstep.export.writer import write_manifest

__all__ = ["TARGETS", "compile_bundle"]


def compile_bundle(
    path: str | Path,
    *,
    target: str = "onnxruntime",
    precision: str = "fp32",
    bounds: Bounds | Mapping[str, float] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> CompiledEntry:
    """Compiles a bundle for a runtime and checks it against the bundle's PyTorch reference.

    Args:
        path: The bundle's directory.
        target: ``onnxruntime``.
        precision: Of the graph to compile: ``fp32``, ``fp16``, ``bf16``.
        bounds: Parity bounds in place of the precision's: ``forward`` and ``ddim20``.
        threads: Threads inside an operator, for the check.
        progress: Called with (description, done, total).

    Returns:
        The entry that the manifest now lists, in place of an older one of its target, precision
        and device.

    Raises:
        ValueError: An unknown target, precision or bound.
        BundleError: The bundle is damaged, or has no graph of this precision.
        BackendError: The runtime is missing or refuses the graph.
        CompileError: The runtime can't run this precision, or the manifest can't be written.
        ParityError: NaN, or an error above its bound. In every case the bundle is unchanged.
    """
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r}; allowed: {', '.join(TARGETS)}")
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}; allowed: {', '.join(PRECISIONS)}")
    limit = resolve_bounds(precision, bounds)
    stages = Stages(progress, 3 + STEPS)
    stages.start("opening the bundle")
    bundle = Bundle.open(path)
    graph = bundle.graph(precision)
    stages.advance(f"loading for {target}")
    made = TARGETS[target](graph, bundle, precision, threads)
    parity = bundle.parity()
    figures = check_parity(made.denoiser, parity, precision, limit, stages)
    if made.decoder is not None:
        figures["decoder"] = check_decoder_parity(made.decoder, parity)
    key = _key(bundle, graph, made, precision)
    entry = CompiledEntry(
        key=key,
        target=target,
        precision=precision,
        runtime=made.runtime,
        version=made.version,
        device=made.device,
        batch=bundle.spec.batch,
        file=None,
        parity=figures,
    )
    stages.start("writing the manifest")
    _record(bundle, entry)
    stages.advance("writing the manifest")
    return entry


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A denoiser, its decoder from final states to images, and what made them."""

    denoiser: Denoiser
    decoder: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None
    runtime: str
    version: str
    device: str


def _onnxruntime(graph: Path, bundle: Bundle, precision: str, threads: int | None) -> Compiled:
    from revstep.engine.backends.ort_session import OrtDenoiser

    if precision == "bf16":
        raise CompileError(
            "ONNX Runtime has no bf16 operators on a CPU, so it can't run the bf16 graph; "
            "compile fp32 or fp16 for onnxruntime (bf16 graphs are for TensorRT)"
        )
    denoiser = OrtDenoiser(graph, bundle.spec, threads=threads)
    version = str(denoiser.describe()["version"])
    decoder, where = None, bundle.decoder()
    if where is not None and bundle.spec.decoder is not None:
        decoder = LatentDecoder(where, bundle.spec.decoder, threads=threads)
    return Compiled(denoiser, decoder, "onnxruntime", version, "cpu")


TARGETS: dict[str, Callable[[Path, Bundle, str, int | None], Compiled]] = {
    "onnxruntime": _onnxruntime,
}


def _key(bundle: Bundle, graph: Path, made: Compiled, precision: str) -> str:
    """Content and versions: the same key means the same compiled network."""
    sha = bundle.manifest["files"][graph.name]["sha256"]
    machine = platform.machine() if made.device == "cpu" else made.device
    parts = (sha, made.runtime, made.version, made.device, machine, precision, *bundle.spec.batch)
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]


def _record(bundle: Bundle, entry: CompiledEntry) -> None:
    """Adds the entry to the manifest as it is now, if the graphs are still those checked."""
    try:
        with _locked(bundle.path):
            manifest = read_manifest(bundle.path)
            if manifest["files"] != bundle.manifest["files"]:
                raise CompileError(
                    f"{bundle.path} was exported anew while this compile ran; compile it again"
                )
            write_manifest(bundle.path, with_entry(manifest, entry))
    except OSError as error:
        raise CompileError(
            f"{bundle.path / MANIFEST} can't be written: {error}; the bundle is unchanged"
        ) from error


def with_entry(manifest: dict[str, Any], entry: CompiledEntry) -> dict[str, Any]:
    """The manifest with the entry in place of an older one of its target, precision and device."""
    same = ("target", "precision", "device")
    others = [
        e for e in manifest["engines"] if any(e[name] != getattr(entry, name) for name in same)
    ]
    figures = {f"{entry.target}.{entry.precision}": entry.parity}
    parity = manifest["parity"]
    parity = {**parity, "figures": {**parity.get("figures", {}), **figures}}
    return {**manifest, "parity": parity, "engines": [*others, entry.to_dict()]}


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One compile at a time changes a manifest; the lock goes with the process."""
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
