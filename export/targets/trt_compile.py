"""A bundle's graphs as TensorRT plans in the bundle, checked where they can run."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from revstep.engine.backends.trt.choice import GpuModel
from revstep.engine.backends.trt.library import TrtLibrary, trt_library
from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.layout import PLANS, ROWS_OF_PARTS
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import finished, record_all
from revstep.engine.checks import wrong_type
from revstep.engine.errors import BackendError, CompileError
from revstep.engine.system.user_cache import read_cache, write_cache
from revstep.export.targets.monitor import TOTAL, share
from revstep.export.targets.options import BuildOptions, Profile
from revstep.export.targets.target import CompileArguments, Target, content_key
from revstep.export.targets.trt_build import build_plan, gpu_targets
from revstep.export.targets.trt_parity import checked_plans
from revstep.export.targets.trt_source import PlanSource, denoiser_source, part_sources

NOT_CHECKED = "not checked on this machine"
NO_TF32 = "no tf32"  # of fp32 plans since they are built without
TAKES = ("precision", "bounds", "batch", "memory_limit", "optimization_level")


def _compile(target: str, arguments: CompileArguments) -> CompiledEntry:
    """Builds a plan of the denoiser, and of each network beside it, into the bundle."""
    precision = arguments.precision
    gpu = _gpu()
    if target == "tensorrt" and gpu is None:  # reported before what to install for it
        raise CompileError(
            "tensorrt builds plans only on the GPU that will run them, and torch finds no NVIDIA "
            "GPU here; compile on that machine (or, for GeForce and RTX GPUs, build without one "
            "with --target tensorrt_rtx)"
        )
    library = trt_library(target)
    bundle = Bundle.open(arguments.path, compiled=False)
    bundle.graph(precision)  # refused before the rows are
    profile = _profile(bundle, arguments.batch)
    gpus = gpu_targets(library, arguments.options.gpus)
    device = ",".join(gpus) if library.rtx else str(gpu)
    sources = [
        denoiser_source(bundle, precision, profile),
        *part_sources(bundle, precision, max(arguments.most_rows, profile.max)),
    ]
    found = [_entry(bundle, s, library, device, arguments.options) for s in sources]
    entries = [entry for entry, _ in found]
    lacking = [(s, str(e.file)) for s, (e, there) in zip(sources, found, strict=True) if not there]
    plans = _built(lacking, library, device, arguments)
    if gpu is not None and gpu.runs(entries[0]):
        entries = checked_plans(bundle, entries, plans, arguments.bounds, library)
    known = (*bundle.compiled, *bundle.compiled_parts)
    changed = [e for e in entries if e.file in plans or e not in known]
    if changed:
        record_all(bundle, changed, plans, instead_of=functools.partial(_fewer_rows, changed))
    if arguments.progress is not None:
        arguments.progress("in the bundle", TOTAL, TOTAL)
    return entries[0]


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


def _entry(
    bundle: Bundle, source: PlanSource, library: TrtLibrary, device: str, options: BuildOptions
) -> tuple[CompiledEntry, bool]:
    """The source's entry, of a finished plan or of the one to build; and whether it is finished.

    Of a network beside the denoiser a plan of more rows will do.
    """
    profile, precision = source.profile, source.precision
    most = profile.max if source.part is None else ROWS_OF_PARTS
    wider = [dataclasses.replace(profile, max=n) for n in range(profile.max, most + 1)]
    keys = [
        content_key(
            bundle, source.graph, library.name, library.version, device, precision,
            *dataclasses.astuple(rows), *dataclasses.astuple(options),
            *([NO_TF32] if precision == "fp32" else []), *filter(None, [source.part]),
        )
        for rows in wider
    ]  # fmt: skip
    found = (finished(bundle, key) for key in keys)
    if (entry := next(filter(None, found), None)) is not None:
        return entry, True
    entry = CompiledEntry(
        key=keys[0], target=library.name, precision=precision, runtime=library.name,
        version=library.version, device=device, batch=(profile.min, profile.max),
        file=f"{PLANS}{keys[0]}.plan", parity=NOT_CHECKED, tuned=profile.opt, part=source.part,
    )  # fmt: skip
    return entry, False


def _built(
    lacking: Sequence[tuple[PlanSource, str]],
    library: TrtLibrary,
    device: str,
    arguments: CompileArguments,
) -> dict[str, bytes]:
    """File -> plan, of sources with their plan's file.

    TensorRT's timings of kernels are kept for the next build on this GPU.
    """
    timings = f"{library.name} {library.version} {device}"
    plans = {}
    for number, (source, file) in enumerate(lacking):
        plans[file], learned = build_plan(
            source, library,
            options=arguments.options,
            timing_cache=None if library.rtx else read_cache("timing", timings) or b"",
            progress=share(arguments.progress, number, len(lacking), source.what),
            cancelled=arguments.cancelled,
        )  # fmt: skip
        if learned:
            write_cache("timing", timings, learned)
    return plans


def _fewer_rows(made: Sequence[CompiledEntry], entry: CompiledEntry) -> bool:
    """Whether one of these, of the same network beside the denoiser, takes more rows."""

    def same(other: CompiledEntry) -> bool:
        names = ("part", "target", "precision", "device")
        return all(getattr(entry, name) == getattr(other, name) for name in names)

    return entry.part is not None and any(same(e) and e.batch[1] > entry.batch[1] for e in made)


TARGETS = (
    Target("tensorrt", TAKES, functools.partial(_compile, "tensorrt")),
    Target("tensorrt_rtx", (*TAKES, "gpus"), functools.partial(_compile, "tensorrt_rtx")),
)
