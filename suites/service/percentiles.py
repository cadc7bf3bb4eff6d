"""Percentiles that a number of samples supports, with the bounds that say so."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.99
PERCENTS = (50, 90, 99)

Percentile = dict[str, float | None]


def supported(values: Sequence[float], percent: int) -> Percentile | None:
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
    nearest = max(1, -(-percent * len(order) // 100))
    ranks_of = {"value": nearest, "low": low, "high": high}
    return {
        name: None if math.isinf(found := order[rank - 1]) else found
        for name, rank in ranks_of.items()
    }


def interval_ranks(count: int, percent: int) -> tuple[int, int] | None:
    """Ranks from 1 of the two samples that bracket a percentile; None: too few samples."""
    if count < 1:
        return None
    tail = (1.0 - CONFIDENCE) / 2
    below = np.cumsum(_binomial(count, percent / 100))  # P(at most k samples lie below it)
    low = int(np.searchsorted(below, tail, side="right"))  # P(fewer than low) <= tail
    high = int(np.searchsorted(below, 1.0 - tail)) + 1  # P(high or more) <= tail
    return (low, high) if low >= 1 and high <= count else None


def all_supported(values: Sequence[float]) -> dict[str, Percentile]:
    """p50, p90 and p99, those that are supported."""
    found = {f"p{percent}": supported(values, percent) for percent in PERCENTS}
    return {name: value for name, value in found.items() if value is not None}


def _binomial(n: int, p: float) -> NDArray[np.float64]:
    """Probabilities of 0 to n successes."""
    k = np.arange(n + 1)
    log_factorial = np.array([math.lgamma(i + 1.0) for i in range(n + 1)])
    ways = log_factorial[n] - log_factorial[k] - log_factorial[n - k]
    found: NDArray[np.float64] = np.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))
    return found
