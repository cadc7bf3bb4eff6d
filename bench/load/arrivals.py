"""When requests are due: Poisson arrivals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def poisson_arrivals(rate: float, count: int, seed: int) -> NDArray[np.float64]:
    """Seconds from the start at which requests are due, ascending (count,).

    Args:
        rate: Requests a second.
        count: How many.
        seed: Of the gaps; at another rate it gives the same gaps, stretched.
    """
    return np.cumsum(np.random.default_rng(seed).standard_exponential(count)) / rate
