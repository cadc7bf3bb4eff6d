"""The choice among candidates that were measured, and what it says of the others."""

from __future__ import annotations

from collections.abc import Sequence

from revstep.export.targets.cpu.candidate import BAD, CHOSEN, NOT_TRIED, SLOWER, TIED, Trial
from revstep.export.targets.cpu.timing import MIN_ROUNDS, WITHIN, as_fast


def choose(trials: Sequence[Trial], rows: int) -> Trial | None:
    """The fastest for so many rows; of those as fast, the simplest; None of none.

    Those that raced to no end are left out where others did: their times are a first impression.
    """
    raced = [t for t in trials if len(t.blocks[rows]) >= MIN_ROUNDS] or list(trials)
    if not raced:
        return None
    fastest = min(raced, key=lambda t: t.median(rows))
    ties = [t for t in raced if t is fastest or _ties(t, fastest, rows)]
    return min(ties, key=lambda t: t.candidate.simplicity)


def status_of(trial: Trial, chosen: Trial, rows: int) -> str:
    """What became of a trial for so many rows, where ``chosen`` won."""
    if trial is chosen:
        return CHOSEN
    if trial.status in (*BAD, NOT_TRIED):
        return str(trial.status)
    return TIED if trial.proven and _ties(trial, chosen, rows) else SLOWER


def _ties(trial: Trial, other: Trial, rows: int) -> bool:
    close = trial.median(rows) <= (1 + WITHIN) * other.median(rows)
    return close and as_fast(trial.blocks[rows], other.blocks[rows])
