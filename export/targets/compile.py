"""``compile_bundle``: a bundle's graph made ready for one runtime, checked before it counts."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.backends.trt.library import PACKAGES
from revstep.engine.bundle.manifest import PRECISIONS, CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import record
from revstep.engine.errors import CompileError
from revstep.engine.nearest import unknown
from revstep.engine.parts.decoder import LatentDecoder
from revstep.export.parity.bounds import recorded
from revstep.export.parity.check import (
    STEPS,
    Bounds,
    check_decoder_parity,
    check_parity,
    resolve_bounds,
)
from revstep.export.progress import Progress, Stages
from revstep.export.targets.trt_build import BuildOptions, Profile
from revstep.export.targets.trt_compile import compile_engine, engine_key

__all__ = ["TARGETS", "compile_bundle"]


def compile_bundle(
    path: str | Path,
    *,
    target: str = "onnxruntime",
    precision: str = "fp32",
    bounds: Bounds | Mapping[str, float] | None = None,
    threads: int | None = None,
    batch: int | Profile | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CompiledEntry:
    """Compiles a bundle for a runtime and checks it against the bundle's PyTorch reference.

    A TensorRT engine that this machine can't run (TensorRT-RTX builds without a GPU) is recorded
    as ``not checked on this machine``. One that is there already is not built again.

    Args:
        path: The bundle's directory.
        target: ``onnxruntime``, ``tensorrt`` (for the GPU of this machine) or ``tensorrt_rtx``.
        precision: Of the graph to compile: ``fp32``, ``fp16``, ``bf16``.
        bounds: Parity bounds in place of the precision's: ``forward`` and ``ddim20``.
        threads: ONNX Runtime: threads inside an operator, for the check.
        batch: TensorRT: the rows of a static engine (default: 1, or the spec's least), or a
            ``Profile(least, tuned, most)`` for a dynamic one.
        options: TensorRT: GPUs, memory limit, optimisation level.
        progress: Called with (description, done, total).
        cancelled: TensorRT: asked often during the build; True stops it.

    Returns:
        The entry that the manifest now lists, in place of an older one of its target, precision,
        device and batch.

    Raises:
        ValueError: An unknown target, precision or bound; rows outside the spec's; an option that
            the target has not.
        BundleError: The bundle is damaged, or has no graph of this precision.
        BackendError: The runtime is missing or refuses the graph.
        CompileError: The runtime can't run this precision or graph, or the manifest can't be
            written.
        ParityError: NaN, or an error above its bound.
        Cancelled: ``cancelled`` said so. In every case the bundle is unchanged.
    """
    if target not in TARGETS and target not in PACKAGES:
        raise ValueError(unknown("target", target, (*TARGETS, *PACKAGES)))
    if precision not in PRECISIONS:
        raise ValueError(unknown("precision", precision, PRECISIONS))
    resolve_bounds(precision, bounds)
    if target in PACKAGES:
        return compile_engine(
            path,
            target=target,
            precision=precision,
            bounds=bounds,
            batch=batch,
            options=options or BuildOptions(),
            progress=progress,
            cancelled=cancelled,
        )
    if batch is not None or options is not None:
        raise ValueError(f"batch and options are for {' and '.join(PACKAGES)}, not for {target!r}")
    stages = Stages(progress, 3 + STEPS)
    stages.start("opening the bundle")
    bundle = Bundle.open(path, compiled=False)
    graph = bundle.graph(precision)
    stages.advance(f"loading for {target}")
    made = TARGETS[target](graph, bundle, precision, threads)
    parity = bundle.parity()
    limit = resolve_bounds(precision, bounds, bundle.manifest)
    figures = check_parity(made.denoiser, parity, precision, limit, stages)
    if made.decoder is not None:
        figures["decoder"] = check_decoder_parity(
            made.decoder, parity, recorded(bundle.manifest, "decoder")
        )
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
    record(bundle, entry)
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
    from revstep.engine.backends.onnx_cpu import OrtDenoiser

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
    machine = platform.machine() if made.device == "cpu" else made.device
    parts = (made.runtime, made.version, made.device, machine, precision, *bundle.spec.batch)
    return engine_key(bundle, graph, *parts)
