"""Percentiles that a number of samples supports, with the bounds that say so."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99
TAIL = (1.0 - CONFIDENCE) / 2
PERCENTS = (50, 90, 99)
SHOWN = (50.0, 90.0, 99.0, 99.9)  # of whole measurements
LADDER = (50, 75, 90, 95, 98, 99, 99.5, 99.9, 99.99)  # of which the highest that can be is shown

Percentile = dict[str, float | None]


def supported(values: Sequence[float], percent: float) -> Percentile | None:
    """A percentile with its interval at 99 % confidence, or None: too few samples.

    The interval's ends are samples: the number of them below the true percentile is binomial,
    whatever they are distributed as. There is none where the true value may lie beyond all of them.
    That takes independent samples; those of one queue are less than that, so it is the least that
    is needed.

    Args:
        values: Seconds; infinity where there was no reply.
        percent: Of the percentile.

    Returns:
        ``value`` by nearest rank, ``low`` and ``high``; None for one that is no reply.

    References:
        David & Nagaraja, "Order statistics", 2003, section 7.1.
    """
    ranks = interval_ranks(len(values), percent)
    if ranks is None:
        return None
    order = sorted(values)
    low, high = ranks
    nearest = max(1, math.ceil(percent * len(order) / 100 - 1e-9))
    ranks_of = {"value": nearest, "low": low, "high": high}
    return {
        name: None if math.isinf(found := order[rank - 1]) else found
        for name, rank in ranks_of.items()
    }


def interval_ranks(count: int, percent: float) -> tuple[int, int] | None:
    """Ranks from 1 of the two samples that bracket a percentile; None: too few samples."""
    if count < 1:
        return None
    below = _below(count, percent)
    low = _lower(below)
    high = int(np.searchsorted(below, 1.0 - TAIL)) + 1  # P(high or more) <= TAIL
    return None if low is None or high > count else (low, high)


def lower_rank(count: int, percent: float) -> int | None:
    """Rank from 1 of the highest sample that surely lies below a percentile; None: too few."""
    return None if count < 1 else _lower(_below(count, percent))


def _lower(below: NDArray[np.float64]) -> int | None:
    return int(np.searchsorted(below, TAIL, side="right")) or None  # P(fewer than it) <= TAIL


def all_supported(
    values: Sequence[float], percents: Sequence[float] = PERCENTS
) -> dict[str, Percentile]:
    """``{"p50": ...}``: those of the percentiles that are supported."""
    found = {f"p{percent:g}": supported(values, percent) for percent in percents}
    return {name: value for name, value in found.items() if value is not None}


def samples_needed(percent: float) -> int:
    """The fewest samples that support a percentile: its tail must hold one of them, surely."""
    rare = min(percent, 100.0 - percent) / 100
    return math.ceil(math.log(TAIL) / math.log1p(-rare) - 1e-9)


def highest(count: int) -> float | None:
    """The highest of ``LADDER`` that so many samples support; None: not even the median."""
    able = [percent for percent in LADDER if samples_needed(percent) <= count]
    return max(able, default=None)


def highest_supported(values: Sequence[float]) -> dict[str, float | None] | None:
    """The highest of ``LADDER`` with its interval, and which it is (``percent``); or None."""
    top = highest(len(values))
    return None if top is None else {"percent": top, **(supported(values, top) or {})}


def unsupported(count: int, percents: Sequence[float] = PERCENTS) -> dict[str, int]:
    """``{"p99": more}``: how many more samples each percentile takes that is not supported."""
    return {
        f"p{percent:g}": samples_needed(percent) - count
        for percent in percents
        if interval_ranks(count, percent) is None
    }


def _below(n: int, percent: float) -> NDArray[np.float64]:
    """Probabilities that at most 0 to n of n samples lie below a percentile."""
    k, p = np.arange(n + 1), percent / 100
    log_factorial = np.array([math.lgamma(i + 1.0) for i in range(n + 1)])
    ways = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    return np.cumsum(np.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p)))
