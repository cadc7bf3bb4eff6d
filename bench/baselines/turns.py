"""Baselines that take turns with the engine: checked first, and what is reported of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from revstep.bench.baselines.protocol import Given
from revstep.bench.baselines.registry import BASELINES, make_baseline
from revstep.bench.baselines.same_work import Differences, OurRun
from revstep.bench.baselines.schedulers import Scheduling, scheduling
from revstep.bench.baselines.source import Source
from revstep.bench.compare import Starts, openings_interval
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.measure import OURS, Measured, Work
from revstep.bench.measure.rounds import Task
from revstep.bench.measure.summary import summary_of
from revstep.bench.stats.verdict import verdict
from revstep.engine.errors import ArgumentError
from revstep.engine.spec.denoiser import DenoiserSpec

LEAST = 8  # pairs: of fewer no interval is one


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """A baseline that did the same work.

    Attributes:
        title: What ran.
        differences: Between its run and the engine's, of each opening.
    """

    title: str
    differences: list[Differences]


class Turns:
    """The baselines of one cell: ``others`` of ``measure_openings``, made anew in each.

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
        self._kept: dict[str, Any] = {}

    def __call__(self, work: Work) -> list[Task]:
        """The baselines' tasks, each of which was compared with the engine's run.

        Raises:
            ParityError: One does not do the same work.
            BackendError, ArgumentError, ExportError: One can't do it here.
        """
        if not self._names:
            return []
        given = Given.of(work, self._source, self._kept)
        ours = OurRun(given)
        tasks = []
        for name in self._names:
            baseline = make_baseline(name, given, self._scheduling)
            checked = self._checked.setdefault(name, Checked(baseline.title, []))
            checked.differences.append(ours.check(name, baseline))
            tasks.append(Task(name, baseline.sample))
        return tasks

    def figures(self, measured: Measured) -> dict[str, Any]:
        """``vs`` of a row: each baseline's summary, ratio, verdict and differences; or nothing.

        What the baselines kept is let go: networks take memory that the next cell's need.
        """
        self._kept.clear()
        checked, self._checked = self._checked, {}
        if not checked:
            return {}
        calls = measured.openings[0].network_calls
        starts = measured.starts
        return {
            "vs": {
                name: _figures(each, starts[OURS], starts[name], calls, self.cell.batch)
                for name, each in checked.items()
            }
        }


def _figures(
    checked: Checked, ours: Starts, theirs: Starts, calls: int, batch: int
) -> dict[str, Any]:
    ratio = openings_interval(ours, theirs)
    differences = Differences.largest_of(checked.differences)
    return {
        "title": checked.title,
        "summary": summary_of([value for start in theirs for value in start], calls, batch),
        "ratio": ratio,
        "verdict": verdict(ratio) if sum(map(len, ours)) >= LEAST else "ambiguous",
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
