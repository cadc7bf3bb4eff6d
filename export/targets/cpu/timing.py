"""Times of calls in blocks, and whether one candidate is slower than another beyond their noise.

Candidates take turns, a block of calls each, and only blocks of one round are compared: what slows
the machine for a while slows both.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from statistics import median, quantiles

MIN_ROUNDS = 3  # in common, before a difference counts
ENOUGH = 0.01  # a gain below this is none
WITHIN = 0.05  # the choice is never slower than the fastest by more


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Calls that were timed one after the other.

    Attributes:
        median: Seconds of one call.
        low: Of the fastest.
        high: Of one that nine in ten are faster than.
        calls: How many.
        seconds: Of all together.
    """

    median: float
    low: float
    high: float
    calls: int
    seconds: float


def ratio(one: Mapping[int, Block], other: Mapping[int, Block]) -> tuple[float, float, int]:
    """(median of one's time over the other's, its uncertainty, rounds in common).

    The uncertainty is two standard errors of a median, from the quartiles of the ratios.
    """
    shared = sorted(one.keys() & other.keys())
    if not shared:
        return math.nan, math.inf, 0
    ratios = [one[r].median / other[r].median for r in shared]
    if len(ratios) < MIN_ROUNDS:
        return median(ratios), math.inf, len(ratios)
    low, _, high = quantiles(ratios, method="inclusive")
    # of n normal values: sd = IQR / 1.349, the median's standard error 1.253 sd / sqrt(n)
    return median(ratios), 2 * 1.253 * (high - low) / 1.349 / math.sqrt(len(ratios)), len(ratios)


def slower(one: Mapping[int, Block], other: Mapping[int, Block]) -> bool:
    """Whether ``one`` is slower than ``other`` beyond noise, by more than nothing to speak of."""
    middle, error, rounds = ratio(one, other)
    return rounds >= MIN_ROUNDS and middle > 1 + ENOUGH and middle - error > 1


def as_fast(one: Mapping[int, Block], other: Mapping[int, Block]) -> bool:
    """Whether ``one`` may be taken in place of the faster ``other``: no difference that counts."""
    middle, _, rounds = ratio(one, other)
    return rounds >= MIN_ROUNDS and middle <= 1 + WITHIN and not slower(one, other)
