"""The highest rate at which a percentile holds."""

from __future__ import annotations

import math
from collections.abc import Callable

from revstep.bench.load.verdict import Verdict

WITHIN = 0.05  # of the rate: it isn't searched more finely

Judge = Callable[[float], Verdict]


def highest_rate(
    judge: Judge, first: float, least: float, most: float, within: float = WITHIN
) -> float | None:
    """Doubles or halves until the verdict changes, then halves what lies between (in ratio).

    A higher rate is taken to be slower; what is undecided does not count as holding.

    Args:
        judge: Loads at a rate, requests a second.
        first: The rate to begin with; it is moved between the ends.
        least: The lowest rate that is tried.
        most: The highest.
        within: The highest rate that holds is known to that, relative.

    Returns:
        The highest rate that held below one that didn't; None: not even the lowest held.
    """
    rate = min(max(first, least), most)
    good, bad = 0.0, math.inf
    while True:
        if judge(rate) == "holds":
            good = rate
        else:
            bad = rate
        if good == most or bad == least:
            break
        if math.isinf(bad):
            rate = min(2 * good, most)
        elif good == 0.0:
            rate = max(bad / 2, least)
        elif bad / good <= 1.0 + within:
            break
        else:
            rate = math.sqrt(good * bad)
    return good or None
