"""A bundle's graph as a TensorRT engine in the bundle, checked where it can run."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from revstep.engine.backends.trt.choice import GpuModel, keep_kernels
from revstep.engine.backends.trt.library import TrtLibrary, trt_library
from revstep.engine.bundle.manifest import PLANS, CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import finished, record
from revstep.engine.errors import BackendError, CompileError
from revstep.engine.system.user_cache import read_cache, write_cache
from revstep.export.parity.check import Bounds, check_parity, resolve_bounds
from revstep.export.progress import Progress
from revstep.export.targets.monitor import TOTAL
from revstep.export.targets.trt_build import BuildOptions, Profile, build_plan, gpu_targets

__all__ = ["NOT_CHECKED", "compile_engine", "engine_key"]

NOT_CHECKED = "not checked on this machine"


def compile_engine(
    path: str | Path,
    *,
    target: str,
    precision: str,
    bounds: Bounds | Mapping[str, float] | None,
    batch: int | Profile | None,
    options: BuildOptions,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CompiledEntry:
    """Builds one engine into the bundle; ``compile_bundle`` documents it."""
    gpu = _gpu()
    if target == "tensorrt" and gpu is None:  # said before what to install for it
        raise CompileError(
            "tensorrt builds engines only on the GPU that will run them, and torch finds no NVIDIA "
            "GPU here; compile on that machine (or, for GeForce and RTX GPUs, build without one "
            "with --target tensorrt_rtx)"
        )
    library = trt_library(target)
    bundle = Bundle.open(path, compiled=False)
    graph = bundle.graph(precision)
    profile = _profile(bundle, batch)
    gpus = gpu_targets(library, options.gpus)
    device = ",".join(gpus) if library.rtx else str(gpu)
    key = engine_key(
        bundle, graph, target, library.version, device, precision,
        *dataclasses.astuple(profile), *dataclasses.astuple(options),
    )  # fmt: skip
    entry, plan = finished(bundle, key), None
    if entry is None:
        plan = _built(graph, bundle, profile, library, device, options, progress, cancelled)
        entry = CompiledEntry(
            key=key,
            target=target,
            precision=precision,
            runtime=library.name,
            version=library.version,
            device=device,
            batch=(profile.least, profile.most),
            file=f"{PLANS}{key}.plan",
            parity=NOT_CHECKED,
            tuned=profile.tuned,
        )
    if gpu is not None and gpu.runs(entry):
        data = plan if plan is not None else (bundle.path / str(entry.file)).read_bytes()
        limit = resolve_bounds(precision, bounds, bundle.manifest)
        figures = _checked(data, bundle, entry, limit, library)
        entry = dataclasses.replace(entry, parity=figures)
    if plan is not None or entry not in bundle.compiled:
        record(bundle, entry, plan)
    if progress is not None:
        progress("in the bundle", TOTAL, TOTAL)
    return entry


def engine_key(bundle: Bundle, graph: Path, *parts: object) -> str:
    """Content, versions and options: the same key means the same compiled network."""
    sha = bundle.manifest["files"][graph.name]["sha256"]
    return hashlib.sha256("|".join(map(str, (sha, *parts))).encode()).hexdigest()[:32]


def _profile(bundle: Bundle, batch: int | Profile | None) -> Profile:
    if isinstance(batch, Profile):
        profile = batch
    else:
        rows = bundle.spec.batch[0] if batch is None else batch
        profile = Profile(rows, rows, rows)
    profile.check(bundle.spec)
    return profile


def _gpu() -> GpuModel | None:
    try:
        return GpuModel.current()
    except (BackendError, ImportError):
        return None


def _built(
    graph: Path,
    bundle: Bundle,
    profile: Profile,
    library: TrtLibrary,
    device: str,
    options: BuildOptions,
    progress: Progress | None,
    cancelled: Callable[[], bool] | None,
) -> bytes:
    """The plan; TensorRT's timings of kernels are kept for the next build on this GPU."""
    timings = f"{library.name} {library.version} {device}"
    known = None if library.rtx else read_cache("timing", timings) or b""
    plan, learned = build_plan(
        graph, bundle.spec, profile, library,
        options=options, timing_cache=known, progress=progress, cancelled=cancelled,
    )  # fmt: skip
    if learned:
        write_cache("timing", timings, learned)
    return plan


def _checked(
    plan: bytes, bundle: Bundle, entry: CompiledEntry, limit: Bounds, library: TrtLibrary
) -> dict[str, Any]:
    """The parity figures of an engine that runs on this machine's GPU."""
    from revstep.engine.backends.trt.denoiser import TrtDenoiser, on_device
    from revstep.engine.backends.trt.plan import TrtEngine
    from revstep.export.parity.host_denoiser import HostDenoiser

    name, mend = f"{entry.key}.plan", entry.command(bundle.path)
    with on_device("cuda"):
        engine = TrtEngine(plan, library, label=name, mend=mend)
    denoiser = TrtDenoiser((engine,), bundle.spec)
    figures = check_parity(HostDenoiser(denoiser), bundle.parity(), entry.precision, limit)
    keep_kernels(denoiser)  # those that the check's runs compiled
    return figures
