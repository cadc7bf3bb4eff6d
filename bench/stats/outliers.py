"""Outliers, counted by kind; none is ever left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MILD, SEVERE = 1.5, 3.0  # interquartile ranges beyond the quartiles


def count_outliers(values: Sequence[float]) -> dict[str, int]:
    """How many values lie beyond Tukey's fences: low and high, mild and severe.

    References:
        Tukey, "Exploratory Data Analysis", 1977.
    """
    array = np.asarray(values, np.float64)
    low, high = np.quantile(array, [0.25, 0.75]) if len(array) else (0.0, 0.0)
    width = high - low
    beyond = {
        "low_severe": array < low - SEVERE * width,
        "low_mild": (array < low - MILD * width) & (array >= low - SEVERE * width),
        "high_mild": (array > high + MILD * width) & (array <= high + SEVERE * width),
        "high_severe": array > high + SEVERE * width,
    }
    return {name: int(np.count_nonzero(which)) for name, which in beyond.items()}
