"""Comparing: two sides that were measured in turns, and a figure with its target."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def times_as_fast(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How many times as fast ours is: the ratio of the medians of runs that took turns."""
    return median(theirs) / median(ours)


def meets(
    value: float | None, *, at_least: float | None = None, at_most: float | None = None
) -> bool | None:
    """Whether a figure meets its target; None without a figure or a target."""
    if value is None or (at_least is None and at_most is None):
        return None
    low = at_least is None or value >= at_least
    return bool(low and (at_most is None or value <= at_most))
