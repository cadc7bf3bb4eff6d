"""The target ``cpu``: the fastest runtime, form and thread count for each number of rows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from revstep.engine.bundle.entry import CPU, CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import record_all
from revstep.engine.errors import CompileError, ParityError
from revstep.engine.spec.precisions import PRECISIONS
from revstep.export.parity.bounds import Bounds
from revstep.export.targets.cpu.candidate import DEFAULT, WRONG, Refused
from revstep.export.targets.cpu.entries import default_entry, entries_of
from revstep.export.targets.cpu.graphs import Graphs
from revstep.export.targets.cpu.plan import (
    check_plan,
    installed,
    make_plan,
    passed_over,
    precisions_of,
)
from revstep.export.targets.cpu.protocol import Report
from revstep.export.targets.cpu.search import Search
from revstep.export.targets.cpu.track import ProcessTrack, figures_of_parts
from revstep.export.targets.parts import has_parts
from revstep.export.targets.target import CompileArguments, Target

PARTS = 1000  # of the progress
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
    with tempfile.TemporaryDirectory(prefix="revstep-") as folder:
        graphs, cache = Graphs(graph, Path(folder)), Path(folder) / "cache"
        parts = _parts(bundle, arguments, cache)
        plan = make_plan(arguments, bundle.spec, graphs)
        cancelled = arguments.cancelled or _never
        track = ProcessTrack(bundle.path, graphs, _bounds(arguments.bounds), cancelled, cache)
        search = Search(plan, track, report)
        try:
            search.run()
        finally:
            track.close_all()
        others = passed_over(arguments, plan, graphs)
        entries, files = entries_of(bundle, search, plan, graphs, precisions, others)
    report(WRITING, 1.0)
    default = default_entry(bundle, search, plan, parts)
    record_all(
        bundle, [*default, *entries], files,
        instead_of=lambda old: (
            old.target == CPU and old.part is None and old.batch[1] in plan.rows
            and ("fp32" in precisions or old.precision in precisions)
        ),
    )  # fmt: skip
    if arguments.progress is not None:
        arguments.progress(WRITING, PARTS, PARTS)
    return tuple(entries)


def _parts(bundle: Bundle, arguments: CompileArguments, cache: Path) -> dict[str, Any]:
    """The figures of the networks beside the denoiser; none where nothing here runs them.

    Raises:
        CompileError: It fails, or differs from PyTorch's.
    """
    if not has_parts(bundle) or DEFAULT not in installed():
        return {}
    try:
        return figures_of_parts(bundle.path, arguments.cancelled or _never, cache)
    except Refused as refused:
        kind = ParityError if refused.status == WRONG else CompileError
        text = f"a network beside the denoiser: {refused.reason}; the bundle is unchanged"
        raise kind(text) from refused


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


def _never() -> bool:
    return False


TARGET = Target(
    CPU,
    ("precision", "bounds", "threads", "batch", "seconds"),
    _compile,
    precisions=(*(p for p in PRECISIONS if p != "fp16"), "auto"),
    not_offered={"int8": NO_INT8},
    together=True,
)
