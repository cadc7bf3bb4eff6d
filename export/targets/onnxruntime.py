"""A bundle's graph checked in ONNX Runtime on a CPU, which needs no file of its own."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import record
from revstep.engine.errors import CompileError
from revstep.engine.parts.decoder import LatentDecoder
from revstep.export.graph.check import open_part
from revstep.export.module.part import encoder_part, picture_part
from revstep.export.parity.bounds import Bounds, recorded, resolve_bounds, wider
from revstep.export.parity.check import check_decoder_parity, check_parity
from revstep.export.parity.parts import Run, check_part_parity, encoded_parity
from revstep.export.parity.runs import STEPS
from revstep.export.progress import Stages
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
    runs = {
        e.name: open_part(bundle.encoder(e.name, precision), encoder_part(e, spec), threads)
        for e in spec.encoders
    }
    whole = encoded_parity(parity, spec, runs)
    figures = check_parity(denoiser, whole, precision, limit, stages)
    figures |= _check_parts(bundle, runs, precision, limit, threads)
    decoder_graph = bundle.decoder()
    if decoder_graph is not None and spec.decoder is not None:
        decode = LatentDecoder(decoder_graph, spec.decoder, threads=threads)
        limit = recorded(bundle.manifest, "decoder")
        figures["decoder"] = check_decoder_parity(decode, parity, limit)
    entry = checked_entry(bundle, precision, version, figures)
    stages.start("writing the manifest")
    record(bundle, entry)
    stages.advance("writing the manifest")
    return entry


def _check_parts(
    bundle: Bundle, runs: Mapping[str, Run], precision: str, limit: Bounds, threads: int | None
) -> dict[str, dict[str, float]]:
    """The errors of the encoders and the picture encoder, by their keys."""
    spec, parity, found = bundle.spec, bundle.parity(), {}
    for encoder in spec.encoders:
        part = encoder_part(encoder, spec)
        own = wider(recorded(bundle.manifest, part.key), limit)
        found[part.key] = check_part_parity(runs[encoder.name], part, parity, own)
    graph = bundle.picture_encoder()
    if graph is not None:
        part = picture_part(spec)
        run = open_part(graph, part, threads)
        own = recorded(bundle.manifest, part.key)
        found[part.key] = check_part_parity(run, part, parity, own)
    return found


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
