"""DEIS: Adams and Bashforth's method in log(sigma / alpha).

References:
    Zhang & Chen, "Fast sampling of diffusion models with exponential integrator", 2023,
    arXiv:2204.13902 (rho-AB, its polynomials in log rho, as diffusers and the authors' code).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_bool, check_whole
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import Point
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.samplers.dpm_solver import FEW_STEPS
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector

Float64 = NDArray[np.float64]

NODES = 64  # Gauss and Legendre's rule; exact to rounding where the density falls by e^100


@dataclasses.dataclass(frozen=True)
class DEIS(BaseSampler):
    r"""The Lagrange polynomials through past eps, in lambda, integrated over sigma / alpha.

    .. math::
        \frac{x_s}{\alpha_s} = \frac{x_t}{\alpha_t} + \sum_j \epsilon_j
            \int_{\varsigma_t}^{\varsigma_s} \ell_j(\log \varsigma)\, d\varsigma, \quad
        \varsigma = \sigma / \alpha = e^{-\lambda}

    j counts the last calls. The first steps, a step to sigma = 0, steps from alpha = 0, and
    (``lower_order_final``) the last ones of fewer than 15, are of lower order. ``lms`` has the
    polynomials in sigma / alpha itself.

    Attributes:
        order: 1 (DDIM) to 3.
        lower_order_final: Whether a run of fewer than 15 steps ends with lower orders.
    """

    stepping = diffusers_stepping.DEIS
    order: int = 3
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        check_whole(self.order, "order", 1, 3)
        check_bool(self.lower_order_final, "lower_order_final")

    def __call__(self, run: Run) -> Vector:
        x = run.x
        past: list[tuple[float, Vector]] = []  # (lambda, eps) of the last calls, newest first
        for number, (now, then) in enumerate(run.steps):
            d = run.denoise(x, now)
            past = [(now.lam, d.eps), *past][: self.order] if math.isfinite(now.lam) else []
            order = max(len(past), 1)
            if self.lower_order_final and len(run.steps) < FEW_STEPS:
                order = min(order, len(run.steps) - number)
            if order == 1 or not math.isfinite(then.lam):
                x = then.alpha * d.x0 + then.sigma * d.eps  # DDIM, also at the two ends
                continue
            rise = _rise(now, then, past[:order])
            x = then.alpha * (x / now.alpha - (now.sigma / now.alpha) * rise)
        return x


def _rise(now: Point, then: Point, past: Sequence[tuple[float, Vector]]) -> Vector:
    """The integral of eps over sigma / alpha, in parts of the level at ``now``, downwards."""
    weights = lagrange_weights(
        [lam for lam, _ in past],
        now.lam,
        then.lam,
        lambda at: np.asarray(np.exp(now.lam - at)),
    )
    parts = [w * eps for w, (_, eps) in zip(weights, past, strict=True)]
    return sum(parts[1:], parts[0])


def lagrange_weights(
    nodes: Sequence[float], start: float, end: float, density: Callable[[Float64], Float64]
) -> list[float]:
    """The integral of each Lagrange polynomial over ``nodes``, times a density.

    Args:
        nodes: Where the values are known: any finite, different numbers.
        start: Where the integral begins.
        end: Where it ends.
        density: Of points (k,), smooth.
    """
    places, shares = _gauss_legendre()
    half = 0.5 * (end - start)
    at = start + half * (places + 1.0)
    mass = half * shares * density(at)
    found = []
    for j, own in enumerate(nodes):
        basis = mass
        for k, other in enumerate(nodes):
            if k != j:
                basis = basis * ((at - other) / (own - other))
        found.append(float(np.sum(basis)))
    return found


@functools.cache
def _gauss_legendre() -> tuple[Float64, Float64]:
    places, shares = np.polynomial.legendre.leggauss(NODES)
    return np.asarray(places), np.asarray(shares)
