"""Comparing: two sides that were measured in turns, and a figure with its target."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

Starts = Sequence[Sequence[float]]
"""Times of one side: a list for every start of its process, one value a round."""

DRAWS = 2000
ENOUGH = 5
"""Starts from which an interval is over them: of five it is from the least to the largest."""


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
    return _interval(_ratios(ours, theirs))


def openings_interval(ours: Starts, theirs: Starts) -> dict[str, float]:
    """As ``ratio_interval``, of the median opening; of fewer than ``ENOUGH`` of the median round.

    Rounds are no more than what an opening's median is of: they would draw the interval in to the
    middle of each opening's scatter.
    """
    groups = _ratios(ours, theirs)
    if len(groups) < ENOUGH:
        return _interval([np.concatenate(groups)])
    return _interval([np.median(group, keepdims=True) for group in groups])


def _ratios(ours: Starts, theirs: Starts) -> list[NDArray[np.float64]]:
    """Of every round, start by start."""
    if [*map(len, ours)] != [*map(len, theirs)] or not any(map(len, ours)):
        raise ValueError(f"rounds of {[*map(len, ours)]} and {[*map(len, theirs)]} are no pairs")
    return [np.divide(b, a) for a, b in zip(ours, theirs, strict=True)]


def _interval(groups: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    random = np.random.default_rng(0)
    drawn = _of_starts(groups, random) if len(groups) > 1 else _of_values(groups[0], random)
    low, high = np.quantile(drawn, [0.025, 0.975])
    middle = float(np.median(np.concatenate(groups)))
    return {"ratio": middle, "low": float(low), "high": float(high)}


def apart_interval(ours: Starts, theirs: Starts) -> dict[str, float]:
    """How many times as fast ours is, where the sides did not take turns, with a 95 % interval.

    Each side is drawn anew by itself (bootstrap): its starts where there are several, then values
    of those that were drawn, as the medians of a few starts may be near each other by chance. What
    drifted between the two sides is not in the interval.

    Returns:
        ``ratio``, ``low`` and ``high``.

    Raises:
        ValueError: A side has no values.
    """
    if not any(map(len, ours)) or not any(map(len, theirs)):
        raise ValueError("a side without times can't be compared")
    random = np.random.default_rng(0)
    drawn = _medians(theirs, random) / _medians(ours, random)
    low, high = np.quantile(drawn, [0.025, 0.975])
    ratio = float(np.median(np.concatenate(theirs)) / np.median(np.concatenate(ours)))
    return {"ratio": ratio, "low": float(low), "high": float(high)}


def _medians(starts: Starts, random: np.random.Generator) -> NDArray[np.float64]:
    """Medians of ``DRAWS`` draws with replacement: of starts, and of values of what was drawn.

    The rank of a median of values has a known distribution (beta), so none are drawn one by one.
    """
    groups = [np.asarray(start, np.float64) for start in starts if len(start)]
    if len(groups) == 1:
        return np.sort(groups[0])[_ranks(len(groups[0]), random, DRAWS)]
    draw = random.integers(len(groups), size=(DRAWS, len(groups)))
    found = np.empty(DRAWS)
    for number, drawn in enumerate(draw):
        pool = np.concatenate([groups[g] for g in drawn])
        (rank,) = _ranks(len(pool), random, 1)
        found[number] = np.partition(pool, rank)[rank]
    return found


def _ranks(count: int, random: np.random.Generator, draws: int) -> NDArray[np.intp]:
    """The rank, from 0, of the median of so many values that are drawn anew, of each draw."""
    middle = (count + 1) // 2
    places = random.beta(middle, count - middle + 1, draws)
    return np.minimum((places * count).astype(np.intp), count - 1)


def _of_starts(
    starts: Sequence[NDArray[np.float64]], random: np.random.Generator
) -> NDArray[np.float64]:
    """Medians of ``DRAWS`` draws of whole starts."""
    draw = random.integers(len(starts), size=(DRAWS, len(starts)))
    return np.array([np.median(np.concatenate([starts[g] for g in drawn])) for drawn in draw])


def _of_values(values: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Medians of ``DRAWS`` draws of single values; one at a time, as there may be many of them."""
    count = len(values)
    return np.array([np.median(values[random.integers(count, size=count)]) for _ in range(DRAWS)])


def meets(
    value: float | None, *, at_least: float | None = None, at_most: float | None = None
) -> bool | None:
    """Whether a figure meets its target; None without a figure or a target."""
    if value is None or (at_least is None and at_most is None):
        return None
    low = at_least is None or value >= at_least
    return bool(low and (at_most is None or value <= at_most))
