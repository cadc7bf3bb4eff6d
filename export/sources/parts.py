"""The parts of a bundle, made of a module in order: checks, reference, graphs, decoder."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from revstep.engine.bundle.layout import DECODER, PARITY, PICTURE_ENCODER, encoder_file
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.graph.batch_range import check_batch
from revstep.export.graph.check import check_decoder_runs, check_part_runs, check_runs
from revstep.export.graph.exporter import export_decoder, export_graph, export_part
from revstep.export.graph.index_limits import check_limits, with_limits
from revstep.export.module.checks import (
    called_module,
    check_decoder,
    check_module,
    scan_weights,
)
from revstep.export.module.unsupported import (
    check_surroundings,
    check_weight_types,
    naming_nested,
    no_autocast,
)
from revstep.export.parity.bounds import Bounds
from revstep.export.parity.parts import part_limits, part_rounding
from revstep.export.parity.reference import (
    Reference,
    decoder_rounding,
    float32_copy,
    make_decoder_reference,
    make_reference,
)
from revstep.export.parity.runs import STEPS
from revstep.export.precision.convert import Reduced, reduced_graphs, remove_graph
from revstep.export.precision.trial import DenoiserTrial, PartTrial
from revstep.export.progress import Stages
from revstep.export.sources.checkpoint import Checkpoint
from revstep.export.sources.others import Other, checked_parts, with_encoded_examples

GRAPH_UNITS = 10  # of a progress bar on which one reference step is 1
CHECKING, GRAPH, DECODING = "checking the module", "exporting the graph", "exporting the decoder"


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """What is to be made: one graph of each precision, in order, in the directory ``work``."""

    spec: DenoiserSpec
    precisions: tuple[str, ...]
    opset: int
    work: Path
    stages: Stages

    def graph(self, precision: str) -> Path:
        """The file of a graph."""
        return self.work / f"denoiser.{precision}.onnx"

    def encoder(self, name: str, precision: str) -> Path:
        """The file of an encoder's graph."""
        return self.work / encoder_file(name, precision)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A module as it was given, and the float32 copy that its graph is made of."""

    given: torch.nn.Module
    copy: torch.nn.Module


def count_units(precisions: tuple[str, ...], spec: DenoiserSpec) -> int:
    """Units of an export's progress."""
    each = 1 + sum(p != "fp32" for p in precisions)
    graphs = each * (1 + len(spec.encoders))
    graphs += (spec.decoder is not None) + (spec.picture_encoder is not None)
    return 3 + STEPS + GRAPH_UNITS * graphs


def make_parts(job: Job, given: Checkpoint, output: str | int | None) -> dict[str, Any]:
    """Writes every file of a bundle but its manifest.

    Returns:
        Of the manifest: ``spec``, ``graphs``, ``parity``, and ``precision`` of the provenance,
        empty without a graph of 16 bits.

    Raises:
        ExportError: The module or the decoder can't be exported.
    """
    job.stages.start(CHECKING)
    others = checked_parts(given)
    job = dataclasses.replace(job, spec=with_encoded_examples(others, job.spec))
    network = _checked_module(given.module, job.spec, output)
    images = _checked_decoder(given.decoder, job.spec)
    job.stages.advance(CHECKING)
    reference, limit = _write_reference(job, network, images, others)
    spec, fp32 = _write_graph(job, network.copy, reference)
    reduced = _write_reduced(job, spec, reference)
    bounds = {p: reference.limits[p] for p in job.precisions}
    if "fp32" in bounds:
        bounds["fp32"] = fp32
    if images is not None and limit is not None:
        bounds["decoder"] = _write_decoder(job, images.copy, reference, limit)
    figures = {f"graph.{p}": r.figures for p, r in reduced.items()}
    for other in others:
        bounds[other.part.key], found = _write_part(job, other, reference)
        figures |= found
    for name, file in given.files.items():
        shutil.copyfile(file, job.work / name)
    return {
        "spec": spec.to_dict(),
        "graphs": {p: job.graph(p).name for p in job.precisions},
        "parity": {
            "bounds": {name: dataclasses.asdict(limit) for name, limit in bounds.items()},
            "figures": {"copy": reference.figures, **figures},
            "reference": reference.run_in,
        },
        "precision": {p: {"nodes": r.nodes, "fp32": r.kept} for p, r in reduced.items()},
    }


def _checked_module(module: torch.nn.Module, spec: DenoiserSpec, output: str | int | None) -> Pair:
    check_surroundings()
    check_weight_types(module)
    scan_weights(module)
    given = called_module(module, spec, output)
    copy = float32_copy(given)
    with no_autocast(torch.device("cpu")), naming_nested(copy):
        check_module(copy, spec)
    check_batch(copy, spec, spec.batch[1])
    check_limits(copy, spec)
    return Pair(given, copy)


def _checked_decoder(decoder: torch.nn.Module | None, spec: DenoiserSpec) -> Pair | None:
    pair = None
    if decoder is not None:
        check_weight_types(decoder, "the decoder")
        scan_weights(decoder)
        pair = Pair(decoder, float32_copy(decoder))
    with no_autocast(torch.device("cpu")):
        check_decoder(None if pair is None else pair.copy, spec)
    return pair


def _write_reference(
    job: Job, network: Pair, images: Pair | None, others: Sequence[Other]
) -> tuple[Reference, Bounds | None]:
    """The reference, and the decoder's bounds."""
    with naming_nested(network.copy):
        reference = make_reference(
            network.given, network.copy, job.spec, job.precisions, job.stages
        )
    limit = None
    if images is not None:
        final = reference.parity["ddim20.final"]
        out, limit = make_decoder_reference(images.given, images.copy, job.spec, final)
        reference.parity["decoder.out"] = out
    for other in others:
        reference.parity.update(other.arrays)
    np.savez(job.work / PARITY, **reference.parity)  # type: ignore[arg-type]
    return reference, limit


def _write_graph(
    job: Job, copy: torch.nn.Module, reference: Reference
) -> tuple[DenoiserSpec, Bounds]:
    """The float32 graph; returns the spec with its limits, and the bounds that hold."""
    job.stages.start(GRAPH)
    path = job.graph("fp32")
    others = export_graph(copy, job.spec, path, opset=job.opset)
    with naming_nested(copy):
        holds = check_runs(
            path, job.spec, reference.parity, reference.limits["fp32"], reference.inner
        )
    for rows in sorted(others):
        check_batch(copy, job.spec, rows)
    spec = with_limits(copy, job.spec, path)
    job.stages.advance(GRAPH, GRAPH_UNITS)
    return spec, holds


def _write_reduced(job: Job, spec: DenoiserSpec, reference: Reference) -> dict[str, Reduced]:
    """The graphs of 16 bits; the float32 graph goes where nobody asked for it."""
    source = job.graph("fp32")
    targets = {p: job.graph(p) for p in job.precisions if p != "fp32"}
    reduced = reduced_graphs(
        source, DenoiserTrial(spec, reference.parity), reference.limits, targets, job.stages,
        GRAPH_UNITS,
    )  # fmt: skip
    if "fp32" not in job.precisions:
        remove_graph(source)
    return reduced


def _write_decoder(
    job: Job, decoder: torch.nn.Module, reference: Reference, limit: Bounds
) -> Bounds:
    """The decoder's graph; its bounds."""
    job.stages.start(DECODING)
    path = job.work / DECODER
    export_decoder(decoder, job.spec, path, opset=job.opset)
    rounding = functools.partial(
        decoder_rounding, decoder, job.spec, reference.parity["ddim20.final"]
    )
    limit = check_decoder_runs(path, job.spec, reference.parity, limit, rounding)
    job.stages.advance(DECODING, GRAPH_UNITS)
    return limit


def _write_part(job: Job, other: Other, reference: Reference) -> tuple[Bounds, dict[str, Any]]:
    """The graphs of an encoder in every precision, or of the picture encoder.

    Returns:
        Their bounds and figures.
    """
    part, stages = other.part, job.stages
    stages.start(f"exporting {part.what}")
    source = job.work / PICTURE_ENCODER if other.name is None else job.encoder(other.name, "fp32")
    export_part(other.copy, part, source, opset=job.opset)
    rounding = functools.partial(part_rounding, other.copy, part)
    limit = check_part_runs(source, part, reference.parity, other.limit, rounding)
    stages.advance(f"exporting {part.what}", GRAPH_UNITS)
    if other.name is None:
        return limit, {}
    targets = {p: job.encoder(other.name, p) for p in job.precisions if p != "fp32"}
    limits = part_limits(limit, reference.limits)
    trial = PartTrial(part, reference.parity)
    reduced = reduced_graphs(source, trial, limits, targets, stages, GRAPH_UNITS)
    if "fp32" not in job.precisions:
        remove_graph(source)
    return limit, {f"{part.key}.{p}": r.figures for p, r in reduced.items()}
