"""Two sides that are engines of one bundle, and what is said of them after turns."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any, cast

import numpy as np

from revstep.bench.compare import ratio_interval
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.correct import check_engine
from revstep.bench.measure.engines import open_engine
from revstep.bench.measure.measure import OURS, Work, measure_cell
from revstep.bench.measure.rounds import Budget, Task
from revstep.bench.stats.verdict import verdict
from revstep.engine.bundle.reader import Bundle
from revstep.engine.engine import Engine

OTHER = "the other side"
PADDING = 1 << 16  # bytes, at most: what moves the memory of the engine that is opened next


class Slowed:
    """An engine as a slower build has it: each run is followed by a spin.

    Args:
        engine: The engine.
        share: Of the time that the run took.
        clock: Gives seconds.
    """

    def __init__(
        self, engine: Engine, share: float, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._engine, self._share, self._clock = engine, share, clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def sample(self, *arguments: Any, **options: Any) -> Any:
        """As ``Engine.sample``."""
        begun = self._clock()
        found = self._engine.sample(*arguments, **options)
        ended = self._clock()
        until = ended + self._share * (ended - begun)
        while self._clock() < until:
            pass
        return found


def compared(
    bundle: Bundle, cell: Cell, budget: Budget, openings: int, planted: float, seed: int
) -> dict[str, Any]:
    """What is said of an engine beside another of the same bundle, as ``bench`` measures.

    Where an engine happens to put its memory moves all its times, by several percent where a run
    takes a tenth of a millisecond. So both are opened anew several times, at other places; who is
    opened, checked and looked into first changes each time; and the interval is over openings.

    Args:
        bundle: The bundle.
        cell: What they run.
        budget: Of the rounds of one opening.
        openings: Of both engines.
        planted: How much longer the other's runs take, relative.
        seed: Of the places.

    Returns:
        ``ratio``, ``low``, ``high`` and ``verdict``; ``openings``: the ratio of each; ``rounds``;
        ``disturbed``: openings that were not quiet.
    """
    draw, kept = np.random.default_rng(seed), []
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    disturbed = 0
    for number in range(openings):
        engines = []
        for side in (0, 1) if number % 2 else (1, 0):
            kept.append(bytearray(int(draw.integers(1, PADDING))))
            opened = open_engine(bundle.path, cell)
            engines.append(cast(Engine, Slowed(opened, planted)) if side and planted else opened)
        times, quiet = _turns(bundle, cell, budget, engines[0], engines[1])
        ours.append(times[not number % 2])
        theirs.append(times[number % 2])
        disturbed += not quiet
    interval = ratio_interval(ours, theirs)
    each = [median(np.divide(b, a)) for a, b in zip(ours, theirs, strict=True)]
    return {
        **interval,
        "verdict": verdict(interval),
        "openings": each,
        "rounds": sum(map(len, ours)),
        "disturbed": disturbed,
    }


def _turns(
    bundle: Bundle, cell: Cell, budget: Budget, first: Engine, second: Engine
) -> tuple[list[list[float]], bool]:
    """Seconds of both, in turns, and whether it was quiet."""

    def others(work: Work) -> list[Task]:
        check_engine(second, bundle, cell)
        return [Task(OTHER, Work.of(bundle, cell, second).sample)]

    figures = measure_cell(bundle, cell, first, budget, others=others).figures
    return [figures["times_s"][name] for name in (OURS, OTHER)], (
        figures["disturbance"]["verdict"] == "quiet"
    )
