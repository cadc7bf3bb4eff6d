"""What a plan is built of: a bundle's graph with its named inputs, and the rows that it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from revstep.engine.bundle.layout import ROWS_OF_PARTS, part_precision
from revstep.engine.bundle.reader import Bundle
from revstep.export.module.part import Part, parts_of
from revstep.export.targets.options import Profile


@dataclasses.dataclass(frozen=True, slots=True)
class PlanSource:
    """A graph and the rows of its plan.

    Attributes:
        graph: The .onnx file.
        precision: Of the graph.
        what: Its name in a sentence: ``a denoiser``, ``the encoder 'text'``.
        inputs: Name -> shape without the rows.
        outputs: How many it has.
        profile: The rows of the plan.
        rows: What the rows of its inputs may be: -1, any; or a number, where the graph fixes it.
        part: The key of a network beside the denoiser; None: the denoiser.
    """

    graph: Path
    precision: str
    what: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: int
    profile: Profile
    rows: tuple[int, ...] = (-1,)
    part: str | None = None


def denoiser_source(bundle: Bundle, precision: str, profile: Profile) -> PlanSource:
    """The denoiser's; ``profile`` is within the spec's rows."""
    spec, graph = bundle.spec, bundle.graph(precision)
    inputs = {spec.name: spec.shape, **{time.name: () for time in spec.times}}
    inputs |= {c.name: c.shape for c in spec.conditions}
    low, high = spec.batch
    rows = (-1, *((low,) if low == high else ()))  # a graph of an ONNX file may fix them
    return PlanSource(graph, precision, "a denoiser", inputs, 1, profile, rows)


def part_sources(bundle: Bundle, precision: str, rows: int) -> list[PlanSource]:
    """Those of the networks beside the denoiser, tuned for one row, of up to ``rows``."""
    profile = Profile(1, 1, min(rows, ROWS_OF_PARTS))
    return [_part_source(bundle, part, precision, profile) for part in parts_of(bundle.spec)]


def _part_source(bundle: Bundle, part: Part, precision: str, profile: Profile) -> PlanSource:
    return PlanSource(
        graph=bundle.part_graph(part.key, precision),
        precision=part_precision(part.key, precision),
        what=part.what,
        inputs={c.name: c.shape for c in part.inputs},
        outputs=len(part.outputs),
        profile=profile,
        part=part.key,
    )
