"""When a median is known well enough: the width of its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

from revstep.bench.stats.percentiles import interval_ranks

NOISE = 0.005  # of the median: what is good enough


def relative_noise(values: Sequence[float]) -> float:
    """Half the width of the median's 99 % interval, over the median; infinite with too few values.

    The interval is that of order statistics, so that a few slow runs don't widen it.
    """
    ranks = interval_ranks(len(values), 50)
    if ranks is None:
        return math.inf
    order = sorted(values)
    low, high = (order[rank - 1] for rank in ranks)
    middle = order[(len(order) - 1) // 2]
    return (high - low) / 2 / middle if middle > 0 else math.inf
