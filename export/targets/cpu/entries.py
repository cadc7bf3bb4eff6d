"""What a search leaves in the bundle: the winners' entries, their graphs, and the default's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from revstep.engine.bundle.choice import CpuChoice
from revstep.engine.bundle.entry import CPU, CompiledEntry
from revstep.engine.bundle.layout import PLANS, file_digest
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import CompileError
from revstep.engine.system.machine import processor
from revstep.export.targets.cpu.candidate import BAD, Candidate, Trial
from revstep.export.targets.cpu.choose import relative, status_of
from revstep.export.targets.cpu.folders import without_folders
from revstep.export.targets.cpu.graphs import Graphs
from revstep.export.targets.cpu.protocol import Plan
from revstep.export.targets.cpu.search import Search
from revstep.export.targets.onnxruntime import checked_entry
from revstep.export.targets.target import content_key


def entries_of(
    bundle: Bundle,
    search: Search,
    plan: Plan,
    graphs: Graphs,
    precisions: Sequence[str],
    others: Sequence[Trial],
) -> tuple[list[CompiledEntry], dict[str, bytes]]:
    """The winners' entries, by rows, and the rewritten graphs that they name.

    Args:
        bundle: The bundle.
        search: That was run.
        plan: Its plan.
        graphs: Its graphs.
        precisions: Those of which winners are kept.
        others: What could not be tried, to be listed too.

    Raises:
        CompileError: Nothing passed its checks; a line each says why.
    """
    entries, files = [], {}
    trials = [*search.trials.values(), *others]
    for rows in plan.rows:
        winners = list(_winners(search, rows, precisions))
        for winner in winners:
            name, file = None, graphs.file(winner.candidate.rewrites)
            if file is not None:
                name = f"{PLANS}{file_digest(file)[:32]}.onnx"
                files[name] = file.read_bytes()
            all_of_them = winner is winners[-1]  # one that bf16 beats is the best of its own
            listed = tuple(
                t.to_dict(rows, status_of(t, winner, rows), relative(t, winner, rows))
                for t in trials
                if all_of_them or t.candidate.precision == winner.candidate.precision
            )
            entries.append(choice_entry(bundle, winner, rows, name, listed))
    if not entries:
        lines = [f"{t.candidate}: {t.status}: {t.reason}" for t in trials if t.status in BAD]
        text = f"nothing runs {bundle.path} here as its reference says; the bundle is unchanged:"
        raise CompileError("\n  ".join((text, *lines)))
    return entries, files


def default_entry(
    bundle: Bundle, search: Search, plan: Plan, parts: dict[str, Any] | None
) -> list[CompiledEntry]:
    """The entry of the target ``onnxruntime``, which the search has checked on its way; or none.

    ``parts`` are the figures of what is beside the denoiser; None: ONNX Runtime doesn't run that.
    """
    trial = search.trials.get(Candidate(threads=plan.threads[0]))
    if trial is None or not trial.proven or parts is None:
        return []
    figures = {**trial.parity, **parts}
    return [checked_entry(bundle, "fp32", str(trial.version), figures)]


def _winners(search: Search, rows: int, precisions: Sequence[str]) -> Iterator[Trial]:
    """The winner in fp32, where that is asked for, and the one in bf16 if it beats that."""
    first = search.winner(rows, precisions[0])
    best = search.winner(rows, *precisions)
    if first is not None:
        yield first
    if best is not None and best is not first:
        yield best


def choice_entry(
    bundle: Bundle,
    winner: Trial,
    rows: int,
    file: str | None,
    candidates: tuple[dict[str, Any], ...],
    *,
    part: str | None = None,
    most: int | None = None,
) -> CompiledEntry:
    """The entry of what won for so many rows; of a ``part`` a call takes 1 to ``most``.

    The reasons of ``candidates`` are listed without folders: they go where the bundle goes.
    """
    one, machine = winner.candidate, processor()
    graph = bundle.graph("fp32") if part is None else bundle.part_graph(part, "fp32")
    key = content_key(
        bundle, graph, CPU, one.runtime, winner.version, machine, one.precision,
        rows, one.threads, *one.rewrites, *filter(None, [part]),
    )  # fmt: skip
    choice = CpuChoice(
        processor=machine, threads=one.threads, rewrites=one.rewrites,
        seconds=winner.median(rows), candidates=tuple(_told(c, bundle.path) for c in candidates),
    )  # fmt: skip
    return CompiledEntry(
        key=key, target=CPU, precision=one.precision, runtime=one.runtime,
        version=str(winner.version), device=CPU, batch=(rows, most or rows), file=file,
        parity=winner.parity, choice=choice, part=part,
    )  # fmt: skip


def _told(candidate: dict[str, Any], bundle: Path) -> dict[str, Any]:
    if "reason" not in candidate:
        return candidate
    folders = (bundle.absolute().parent, bundle.resolve().parent)
    return {**candidate, "reason": without_folders(candidate["reason"], *folders)}
