"""The target ``cpu``: the fastest runtime, form and thread count for each number of rows."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

from revstep.engine.bundle.entry import CPU, CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import record_all
from revstep.engine.spec.precisions import PRECISIONS
from revstep.export.parity.bounds import Bounds
from revstep.export.targets.cpu.beside import Beside
from revstep.export.targets.cpu.entries import default_entry, entries_of
from revstep.export.targets.cpu.graphs import Graphs
from revstep.export.targets.cpu.plan import (
    check_plan,
    make_plan,
    passed_over,
    precisions_of,
)
from revstep.export.targets.cpu.process import never
from revstep.export.targets.cpu.protocol import Report
from revstep.export.targets.cpu.search import Search
from revstep.export.targets.cpu.track import ProcessTrack
from revstep.export.targets.target import CompileArguments, Target

PARTS = 1000  # of the progress
FOR_PARTS = 0.25  # of the seconds: for the networks beside the denoiser, if there are any
WRITING = "writing the manifest"
NO_INT8 = (
    "int8 is not offered: after post-training quantisation the bundled network's images had a "
    "Frechet distance of 64.9, in fp32 and bf16 1.3 (docs/cpu.md); use fp32, bf16 or auto"
)


def _compile(arguments: CompileArguments) -> tuple[CompiledEntry, ...]:
    report = _reporting(arguments)
    report("opening the bundle", 0.0)
    bundle = Bundle.open(arguments.path, compiled=False)
    graph = bundle.graph("fp32")
    check_plan(arguments, bundle.spec)
    precisions = precisions_of(arguments.precision)
    cancelled = arguments.cancelled or never
    with tempfile.TemporaryDirectory(prefix="revstep-") as folder:
        graphs, cache = Graphs(graph, Path(folder)), Path(folder) / "cache"
        plan = make_plan(arguments, bundle.spec, graphs)
        beside = Beside(bundle, arguments, Path(folder), plan.seconds * FOR_PARTS)
        share = FOR_PARTS if beside.keys else 0.0
        beside.search(_part_of(report, 0.0, share))
        plan = dataclasses.replace(plan, seconds=plan.seconds * (1.0 - share))
        track = ProcessTrack(bundle.path, graphs, _bounds(arguments.bounds), cancelled, cache)
        search = Search(plan, track, _part_of(report, share, 1.0))
        try:
            search.run()
            beside.check_whole_way(track, search, plan, precisions)
        finally:
            track.close_all()
        others = passed_over(arguments, plan, graphs.reason)
        entries, files = entries_of(bundle, search, plan, graphs, precisions, others)
        parts = beside.entries()
    report(WRITING, 1.0)
    default = default_entry(bundle, search, plan, beside.default_figures())
    record_all(
        bundle, [*default, *entries, *parts], files,
        instead_of=lambda old: (
            old.target == CPU and (old.part is not None or (old.batch[1] in plan.rows
            and ("fp32" in precisions or old.precision in precisions)))
        ),
    )  # fmt: skip
    if arguments.progress is not None:
        arguments.progress(WRITING, PARTS, PARTS)
    return (*entries, *parts)


def _bounds(bounds: Bounds | Mapping[str, float] | None) -> dict[str, float] | None:
    if isinstance(bounds, Bounds):
        return {"forward": bounds.forward, "ddim20": bounds.ddim20}
    return None if bounds is None else dict(bounds)


def _reporting(arguments: CompileArguments) -> Report:
    """Progress by shares, of which the last part is left for the manifest."""
    told = arguments.progress

    def report(text: str, share: float) -> None:
        if told is not None:
            told(text, int(share * (PARTS - 1)), PARTS)

    return report


def _part_of(report: Report, begin: float, end: float) -> Report:
    """A report whose shares lie from ``begin`` to ``end`` of another's."""
    return lambda text, share: report(text, begin + share * (end - begin))


TARGET = Target(
    CPU,
    ("precision", "bounds", "threads", "batch", "seconds"),
    _compile,
    precisions=(*(p for p in PRECISIONS if p != "fp16"), "auto"),
    not_offered={"int8": NO_INT8},
    together=True,
    whole=("auto", "fp32"),
)
