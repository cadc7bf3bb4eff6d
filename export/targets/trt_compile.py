"""A bundle's graph as a TensorRT plan in the bundle, checked where it can run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from revstep.engine.backends.trt.choice import GpuModel, keep_kernels
from revstep.engine.backends.trt.library import TrtLibrary, trt_library
from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.layout import PLANS
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import finished, record
from revstep.engine.checks import wrong_type
from revstep.engine.errors import BackendError, CompileError
from revstep.engine.system.user_cache import read_cache, write_cache
from revstep.export.parity.bounds import Bounds, resolve_bounds
from revstep.export.parity.check import check_parity
from revstep.export.targets.monitor import TOTAL
from revstep.export.targets.options import Profile
from revstep.export.targets.target import CompileArguments, Target, content_key
from revstep.export.targets.trt_build import build_plan, gpu_targets

NOT_CHECKED = "not checked on this machine"
TAKES = ("precision", "bounds", "batch", "memory_limit", "optimization_level")


def _compile(target: str, arguments: CompileArguments) -> CompiledEntry:
    """Builds one plan into the bundle."""
    precision, options = arguments.precision, arguments.options
    gpu = _gpu()
    if target == "tensorrt" and gpu is None:  # reported before what to install for it
        raise CompileError(
            "tensorrt builds plans only on the GPU that will run them, and torch finds no NVIDIA "
            "GPU here; compile on that machine (or, for GeForce and RTX GPUs, build without one "
            "with --target tensorrt_rtx)"
        )
    library = trt_library(target)
    bundle = Bundle.open(arguments.path, compiled=False)
    graph = bundle.graph(precision)
    profile = _profile(bundle, arguments.batch)
    gpus = gpu_targets(library, options.gpus)
    device = ",".join(gpus) if library.rtx else str(gpu)
    key = content_key(
        bundle, graph, target, library.version, device, precision,
        *dataclasses.astuple(profile), *dataclasses.astuple(options),
    )  # fmt: skip
    entry, plan = finished(bundle, key), None
    if entry is None:
        plan = _built(graph, bundle, profile, library, device, arguments)
        entry = CompiledEntry(
            key=key, target=target, precision=precision, runtime=library.name,
            version=library.version, device=device, batch=(profile.min, profile.max),
            file=f"{PLANS}{key}.plan", parity=NOT_CHECKED, tuned=profile.opt,
        )  # fmt: skip
    if gpu is not None and gpu.runs(entry):
        data = plan if plan is not None else (bundle.path / str(entry.file)).read_bytes()
        limit = resolve_bounds(precision, arguments.bounds, bundle.manifest)
        figures = _checked(data, bundle, entry, limit, library)
        entry = dataclasses.replace(entry, parity=figures)
    if plan is not None or entry not in bundle.compiled:
        record(bundle, entry, plan)
    if arguments.progress is not None:
        arguments.progress("in the bundle", TOTAL, TOTAL)
    return entry


def _profile(bundle: Bundle, batch: int | Profile | Sequence[int] | None) -> Profile:
    if isinstance(batch, Sequence):
        raise wrong_type(batch, "batch", "a whole number or a Profile; one compile makes one plan")
    rows = bundle.spec.batch[0] if batch is None else batch
    profile = rows if isinstance(rows, Profile) else Profile.of(rows)
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
    arguments: CompileArguments,
) -> bytes:
    """The plan; TensorRT's timings of kernels are kept for the next build on this GPU."""
    timings = f"{library.name} {library.version} {device}"
    known = None if library.rtx else read_cache("timing", timings) or b""
    plan, learned = build_plan(
        graph, bundle.spec, profile, library,
        options=arguments.options, timing_cache=known,
        progress=arguments.progress, cancelled=arguments.cancelled,
    )  # fmt: skip
    if learned:
        write_cache("timing", timings, learned)
    return plan


def _checked(
    plan: bytes, bundle: Bundle, entry: CompiledEntry, limit: Bounds, library: TrtLibrary
) -> dict[str, Any]:
    """The parity figures of a plan that runs on this machine's GPU."""
    from revstep.engine.backends.trt.denoiser import TrtDenoiser, on_device
    from revstep.engine.backends.trt.plan import TrtPlan
    from revstep.export.parity.host_denoiser import HostDenoiser

    name, command = f"{entry.key}.plan", entry.command(bundle.path)
    with on_device("cuda"):
        opened = TrtPlan(plan, library, label=name, command=command)
    denoiser = TrtDenoiser((opened,), bundle.spec)
    figures = check_parity(HostDenoiser(denoiser), bundle.parity(), entry.precision, limit)
    keep_kernels(denoiser)  # those that the check's runs compiled
    return figures


TARGETS = (
    Target("tensorrt", TAKES, functools.partial(_compile, "tensorrt")),
    Target("tensorrt_rtx", (*TAKES, "gpus"), functools.partial(_compile, "tensorrt_rtx")),
)
