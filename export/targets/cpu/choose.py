"""The choice among candidates that were measured, and what it says of the others."""

from __future__ import annotations

from collections.abc import Sequence

from revstep.export.targets.cpu.candidate import (
    BAD,
    CHOSEN,
    FASTER,
    NOT_TRIED,
    SLOWER,
    TIED,
    Trial,
)
from revstep.export.targets.cpu.timing import MIN_ROUNDS, as_fast, ratio, slower


def choose(trials: Sequence[Trial], rows: int) -> Trial | None:
    """The fastest for so many rows; of those as fast, the simplest; None of none.

    All are compared with the one that raced the longest, in the rounds in common; a look at one by
    itself counts only where nothing raced.
    """
    if not trials:
        return None
    longest = max(trials, key=lambda t: (len(t.blocks[rows]), -t.median(rows)))
    found = {id(t): relative(t, longest, rows) for t in trials}
    raced = [t for t in trials if found[id(t)] is not None]
    if not raced:
        return min(trials, key=lambda t: t.median(rows))
    fastest = min(raced, key=lambda t: found[id(t)] or 0.0)
    ties = [t for t in raced if t is fastest or as_fast(t.blocks[rows], fastest.blocks[rows])]
    return min(ties, key=lambda t: t.candidate.simplicity)


def status_of(trial: Trial, chosen: Trial, rows: int) -> str:
    """What became of a trial for so many rows, where ``chosen`` won."""
    if trial is chosen:
        return CHOSEN
    if trial.status in (*BAD, NOT_TRIED):
        return str(trial.status)
    if not (trial.proven and as_fast(trial.blocks[rows], chosen.blocks[rows])):
        return SLOWER
    # the default's fp32, where bf16 alone was asked for
    other = trial.candidate.precision != chosen.candidate.precision
    return FASTER if other and slower(chosen.blocks[rows], trial.blocks[rows]) else TIED


def relative(trial: Trial, other: Trial, rows: int) -> float | None:
    """A trial's time over another's, in the rounds in common; None: they are too few."""
    middle, _, rounds = ratio(trial.blocks.get(rows, {}), other.blocks[rows])
    return middle if rounds >= MIN_ROUNDS else None
