"""Comparing: two sides that were measured in turns, and a figure with its target."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

Starts = Sequence[Sequence[float]]
"""Times of one side: a list for every start of its process, one value a round."""

DRAWS = 2000


def times_as_fast(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times as fast ours is: the ratio of the medians of runs that took turns."""
    return median(theirs) / median(ours)


def ratio_interval(ours: Starts, theirs: Starts) -> dict[str, float]:
    """How many times as fast ours is in the median round, with a 95 % interval (bootstrap).

    The two sides of a round ran one after the other, so their ratio is taken round by round. What
    is drawn anew are whole starts, where there are several: a start's rounds have in common where
    its process put its memory.

    Returns:
        ``ratio``, ``low`` and ``high``.

    Raises:
        ValueError: The sides have other numbers of starts or rounds, or none.
    """
    if [*map(len, ours)] != [*map(len, theirs)] or not any(map(len, ours)):
        raise ValueError(f"rounds of {[*map(len, ours)]} and {[*map(len, theirs)]} are no pairs")
    groups = [np.divide(b, a) for a, b in zip(ours, theirs, strict=True)]
    if len(groups) == 1:
        groups = [groups[0][[number]] for number in range(len(groups[0]))]
    draw = np.random.default_rng(0).integers(len(groups), size=(DRAWS, len(groups)))
    medians = [np.median(np.concatenate([groups[g] for g in drawn])) for drawn in draw]
    low, high = np.quantile(medians, [0.025, 0.975])
    middle = float(np.median(np.concatenate(groups)))
    return {"ratio": middle, "low": float(low), "high": float(high)}


def meets(
    value: float | None, *, at_least: float | None = None, at_most: float | None = None
) -> bool | None:
    """Whether a figure meets its target; None without a figure or a target."""
    if value is None or (at_least is None and at_most is None):
        return None
    low = at_least is None or value >= at_least
    return bool(low and (at_most is None or value <= at_most))
