"""Quantiles of the beta distribution in float64, without a dependency."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

TERMS = 400  # of the continued fraction; 100 do for shape parameters up to 100
HALVINGS = 80


def beta_quantile(share: Float64, a: float, b: float) -> Float64:
    """The x with P(X <= x) = share for X ~ Beta(a, b), by bisection; float64, of share's shape."""
    low, high = np.zeros_like(share), np.ones_like(share)
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        below = _cdf(middle, a, b) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(share <= 0.0, 0.0, np.where(share >= 1.0, 1.0, 0.5 * (low + high)))


def _cdf(x: Float64, a: float, b: float) -> Float64:
    """The regularised incomplete beta function I_x(a, b), by the faster of its two fractions."""
    near = x < (a + 1.0) / (a + b + 2.0)
    y = np.where(near, x, 1.0 - x)
    p, q = np.where(near, a, b), np.where(near, b, a)
    log_scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    with np.errstate(divide="ignore"):
        tail = np.exp(log_scale + p * np.log(y) + q * np.log1p(-y)) / p * _fraction(y, p, q)
    return np.asarray(np.where(near, tail, 1.0 - tail))


def _fraction(x: Float64, a: Float64, b: Float64) -> Float64:
    """The continued fraction of I_x(a, b), by Lentz's method (DLMF 8.17.22)."""
    c = np.ones_like(x)
    d = 1.0 / (1.0 - (a + b) * x / (a + 1.0))
    value = d.copy()
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1.0 / (1.0 + term * d)
            c = 1.0 + term / c
            value = value * c * d
        if np.all(np.abs(c * d - 1.0) < 1e-15):
            break
    return value
