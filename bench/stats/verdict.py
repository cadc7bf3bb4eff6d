"""Same, faster, slower or ambiguous: what an interval of ratios says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Verdict = Literal["same", "faster", "slower", "ambiguous"]
VERDICTS: tuple[Verdict, ...] = ("same", "faster", "slower", "ambiguous")
THRESHOLD = 0.02  # a smaller difference is none


def verdict(interval: Mapping[str, float], threshold: float = THRESHOLD) -> Verdict:
    """What a ratio (theirs over ours: above 1, ours is faster) with its interval says of ours.

    A difference counts where the whole interval lies beyond 1 and its middle beyond the threshold;
    sameness where the whole interval lies within the threshold. Anything else is ambiguous: more
    runs, or a quieter machine, would tell.

    Args:
        interval: ``ratio``, ``low``, ``high``, as of ``ratio_interval``.
        threshold: The smallest relative difference that matters.
    """
    low, middle, high = interval["low"], interval["ratio"], interval["high"]
    if low > 1.0 and middle >= 1.0 + threshold:
        return "faster"
    if high < 1.0 and middle <= 1.0 / (1.0 + threshold):
        return "slower"
    within = 1.0 / (1.0 + threshold) <= low and high <= 1.0 + threshold
    return "same" if within else "ambiguous"
