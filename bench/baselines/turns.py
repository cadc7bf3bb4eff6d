"""Baselines that take turns with the engine: checked first, and what is reported of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from revstep.bench.baselines.protocol import Baseline, Given
from revstep.bench.baselines.registry import BASELINES, make_baseline
from revstep.bench.baselines.same_work import Differences, OurRun
from revstep.bench.baselines.schedulers import Scheduling, scheduling
from revstep.bench.baselines.source import Source
from revstep.bench.compare import ratio_interval
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.measure import Measured, Work
from revstep.bench.measure.rounds import Task
from revstep.bench.measure.summary import summary_of
from revstep.bench.stats.verdict import verdict
from revstep.engine.errors import ArgumentError
from revstep.engine.spec.denoiser import DenoiserSpec

LEAST = 8  # pairs: of fewer no interval is one


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """A baseline that does the same work.

    Attributes:
        baseline: The baseline.
        differences: Between its run and the engine's.
    """

    baseline: Baseline
    differences: Differences


class Turns:
    """The baselines of one cell: ``others`` of ``measure_cell``.

    Args:
        names: Of ``BASELINES``.
        source: The PyTorch module, where one of them needs it.
        scheduling: The scheduler, where one of them needs it.

    Attributes:
        cell: As our side runs it.
    """

    def __init__(
        self, cell: Cell, names: Sequence[str], source: Source | None, scheduling: Scheduling | None
    ) -> None:
        self.cell = cell if scheduling is None else scheduling.cell
        self._names, self._source, self._scheduling = names, source, scheduling
        self._checked: dict[str, Checked] = {}

    def __call__(self, work: Work) -> list[Task]:
        """The baselines' tasks, each of which was compared with the engine's run.

        Raises:
            ParityError: One does not do the same work.
            BackendError, ArgumentError, ExportError: One can't do it here.
        """
        if not self._names:
            return []
        given = Given.of(work, self._source)
        ours = OurRun(given)
        tasks = []
        for name in self._names:
            baseline = make_baseline(name, given, self._scheduling)
            self._checked[name] = Checked(baseline, ours.check(name, baseline))
            tasks.append(Task(name, baseline.sample))
        return tasks

    def figures(self, measured: Measured) -> dict[str, Any]:
        """``vs`` of a row: each baseline's summary, ratio, verdict and differences; or nothing.

        The baselines are let go: their networks take memory that the next cell's need.
        """
        checked, self._checked = self._checked, {}
        if not checked:
            return {}
        ours, *theirs = measured.rounds.times
        calls, batch = measured.work.network_calls, measured.work.cell.batch
        return {
            "vs": {
                name: _figures(each, ours, times, calls, batch)
                for (name, each), times in zip(checked.items(), theirs, strict=True)
            }
        }


def _figures(
    checked: Checked, ours: list[float], theirs: list[float], calls: int, batch: int
) -> dict[str, Any]:
    ratio = ratio_interval([ours], [theirs])
    differences = checked.differences
    return {
        "title": checked.baseline.title,
        "summary": summary_of(theirs, calls, batch),
        "ratio": ratio,
        "verdict": verdict(ratio) if len(ours) >= LEAST else "ambiguous",
        "largest_difference": differences.largest,
        "differences": {"steps": list(differences.steps), "final": differences.final},
    }


def turns_of(cell: Cell, names: Sequence[str], spec: DenoiserSpec, source: Source | None) -> Turns:
    """The baselines of a cell, before anything is opened.

    Raises:
        ArgumentError, ExportError: One can't run the cell's sampler, or its samples don't fit in
            one network call.
    """
    low, high = spec.batch
    if names and not low <= cell.rows <= high:
        raise ArgumentError(
            f"baselines run all samples in one network call: batch {cell.batch} has {cell.rows} "
            f"rows, and the bundle takes {low} to {high}: use another --batch",
            "batch",
        )
    scheduled = None
    if any(BASELINES[name].folder for name in names):
        assert source is not None
        assert source.folder is not None
        scheduled = scheduling(cell, spec, Path(source.folder))
    return Turns(cell, names, source, scheduled)
