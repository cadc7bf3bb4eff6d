"""A cell whose sides are opened anew several times: where their memory lies moves all their times.

By up to several percent, in runs of a tenth of a millisecond: of one opening no number of runs
shows it.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from revstep.bench.compare import ENOUGH
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.measure import (
    Measured,
    Opening,
    Others,
    Work,
    measure_opening,
    measured_of,
)
from revstep.bench.measure.rounds import Budget, Progress, Stopped, Task
from revstep.engine.bundle.reader import Bundle
from revstep.engine.engine import Engine

OPENINGS = ENOUGH
PADDING = 1 << 16  # bytes, at most: what moves the memory of what is opened next
SMALL = 1 << 28  # bytes of a bundle's files, of which two engines surely fit side by side
WHY: tuple[Stopped, ...] = ("interrupted", "seconds", "runs", "converged")
"""Why openings ended: of a cell whose openings had several reasons, the first of them."""


class Places:
    """Memory that is held, so that what is opened next lies elsewhere than what was let go.

    Args:
        seed: Of the places.
    """

    def __init__(self, seed: int) -> None:
        self._draw = np.random.default_rng(seed)
        self._held: list[bytearray] = []

    def move(self) -> None:
        """Moves what is opened next."""
        self._held.append(bytearray(int(self._draw.integers(1, PADDING))))


def measure_openings(
    bundle: Bundle,
    cell: Cell,
    opener: Callable[[], Engine],
    budget: Budget,
    openings: int,
    *,
    price: float | None = None,
    others: Others | None = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Measured:
    """Measures a cell, its sides opened anew for every share of its budget.

    Each opening is checked before it is timed, and let go before the next. Ctrl-C keeps the whole
    rounds that there are.

    Args:
        bundle: The bundle.
        cell: What to run.
        opener: Opens its engine.
        budget: Of all openings.
        openings: How many.
        price: Of the machine, an hour.
        others: What takes turns with the engine: called with each.
        progress: As of ``run_rounds``.
        seed: Of the places of their memory.

    Raises:
        ParityError, ArgumentError: As ``measure_cell``.
    """
    places, found = Places(seed), list[Opening]()
    alike = openings > 1 and others is not None and _bytes_of(bundle) <= SMALL
    work: Work | None = None

    def placed(work: Work) -> Sequence[Task]:
        places.move()
        return () if others is None else others(work)

    ended: Stopped | None = None
    try:
        for number, share in enumerate(budget.shares(openings)):
            work = None
            gc.collect()  # before there is another: they may not fit side by side
            engine = _opened(opener, places, beside_another=alike)
            opening, work = measure_opening(
                bundle, cell, engine, share, placed, _part(progress, number, openings)
            )
            del engine
            found.append(opening)
            if opening.rounds.stopped == "interrupted":
                break
    except KeyboardInterrupt:
        if not found:
            raise
        ended, work = "interrupted", None
    reasons = {opening.rounds.stopped for opening in found} | {ended}
    return measured_of(bundle, cell, found, work, next(why for why in WHY if why in reasons), price)


def _opened(opener: Callable[[], Engine], places: Places, *, beside_another: bool) -> Engine:
    """An engine; beside another, which is let go then, it is not the first to be opened.

    What was opened first where all had been let go was slower by percents than its equal that was
    opened after it, in every opening of a process (mlp, 0.14 ms a run; openings in turns).
    """
    places.move()
    first = opener()
    if not beside_another:
        return first
    places.move()
    engine = opener()
    del first
    gc.collect()
    return engine


def _bytes_of(bundle: Bundle) -> int:
    return sum(file.stat().st_size for file in Path(bundle.path).rglob("*") if file.is_file())


def _part(progress: Progress | None, number: int, openings: int) -> Progress | None:
    """The progress of one opening as that of all."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, openings * total)
