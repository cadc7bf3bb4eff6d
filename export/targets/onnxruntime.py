"""A bundle's graph checked in ONNX Runtime on a CPU, which needs no file of its own."""

from __future__ import annotations

import platform
from typing import Any

from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import record
from revstep.engine.errors import CompileError
from revstep.export.parity.bounds import resolve_bounds
from revstep.export.parity.check import check_parity
from revstep.export.parity.parts import encoded_parity
from revstep.export.parity.runs import STEPS
from revstep.export.progress import Stages
from revstep.export.targets.parts import encoder_runs, part_figures
from revstep.export.targets.target import CompileArguments, Target, content_key

NAME, DEVICE = "onnxruntime", "cpu"


def _compile(arguments: CompileArguments) -> CompiledEntry:
    precision, threads = arguments.precision, arguments.threads
    stages = Stages(arguments.progress, 3 + STEPS)
    stages.start("opening the bundle")
    bundle = Bundle.open(arguments.path, compiled=False)
    graph, spec = bundle.graph(precision), bundle.spec
    stages.advance(f"loading for {NAME}")
    if precision == "bf16":
        raise CompileError(
            "ONNX Runtime has no bf16 operators on a CPU, so it can't run the bf16 graph; "
            "compile fp32 or fp16 for onnxruntime (bf16 graphs are for TensorRT)"
        )
    from revstep.engine.backends.onnx_cpu import OrtDenoiser

    denoiser = OrtDenoiser(graph, spec, threads=threads)
    version = str(denoiser.describe()["version"])
    parity = bundle.parity()
    limit = resolve_bounds(precision, arguments.bounds, bundle.manifest)
    runs = encoder_runs(bundle, precision, threads)
    whole = encoded_parity(parity, spec, runs)
    figures = check_parity(denoiser, whole, precision, limit, stages)
    figures |= part_figures(bundle, parity, precision, runs, threads)
    entry = checked_entry(bundle, precision, version, figures)
    stages.start("writing the manifest")
    record(bundle, entry)
    stages.advance("writing the manifest")
    return entry


def checked_entry(
    bundle: Bundle, precision: str, version: str, figures: dict[str, Any]
) -> CompiledEntry:
    """The entry of a graph that has passed its checks in ONNX Runtime of that version."""
    graph, rows, machine = bundle.graph(precision), bundle.spec.batch, platform.machine()
    return CompiledEntry(
        key=content_key(bundle, graph, NAME, version, DEVICE, machine, precision, *rows),
        target=NAME, precision=precision, runtime=NAME, version=version, device=DEVICE,
        batch=rows, file=None, parity=figures,
    )  # fmt: skip


TARGET = Target(NAME, ("precision", "bounds", "threads"), _compile)
