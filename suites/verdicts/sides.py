"""Two sides that are engines of one bundle, and what is said of them after turns."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any, cast

import numpy as np

from revstep.bench.compare import openings_interval
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.correct import check_engine
from revstep.bench.measure.engines import open_engine
from revstep.bench.measure.measure import OURS, Work
from revstep.bench.measure.openings import measure_openings
from revstep.bench.measure.rounds import Budget, Task
from revstep.bench.stats.verdict import verdict
from revstep.engine.bundle.reader import Bundle
from revstep.engine.engine import Engine

OTHER = "the other side"


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
    """What is said of an engine beside another of the same bundle, as ``bench run --vs`` says it.

    Args:
        bundle: The bundle.
        cell: What they run.
        budget: Of the rounds of all openings.
        openings: Of both engines.
        planted: How much longer the other's runs take, relative.
        seed: Of the places of their memory.

    Returns:
        ``ratio``, ``low``, ``high`` and ``verdict``; ``openings``: the ratio of each; ``rounds``;
        ``disturbed``: openings that were not quiet.
    """

    def others(work: Work) -> list[Task]:
        opened = open_engine(bundle.path, cell)
        other = cast(Engine, Slowed(opened, planted)) if planted else opened
        check_engine(other, bundle, cell)
        return [Task(OTHER, Work.of(bundle, cell, other).sample)]

    measured = measure_openings(
        bundle, cell, lambda: open_engine(bundle.path, cell), budget, openings, others=others,
        seed=seed,
    )  # fmt: skip
    ours, theirs = (measured.starts[name] for name in (OURS, OTHER))
    interval = openings_interval(ours, theirs)
    told = measured.figures["openings"]
    return {
        **interval,
        "verdict": verdict(interval),
        "openings": [median(np.divide(b, a)) for a, b in zip(ours, theirs, strict=True)],
        "rounds": sum(map(len, ours)),
        "disturbed": sum(each["disturbance"] != "quiet" for each in told),
    }
