"""A Gaussian mixture: data whose denoiser, score and probability flow are known exactly."""

from __future__ import annotations

import dataclasses
from typing import Protocol

import numpy as np

from proofs.predictions import Float64, natural_time, prediction_of
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.prediction import PRECONDITIONED, input_scale

__all__ = ["Float64", "Mixture", "MixtureNetwork", "three_modes", "training_points"]


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k w_k N(mu_k, s_k² I).

    Attributes:
        weights: w, float64 (K,), summing to 1.
        means: mu, float64 (K, D).
        widths: s, float64 (K,); 0 is a point.
    """

    weights: Float64
    means: Float64
    widths: Float64

    @property
    def mean(self) -> Float64:
        """E[x0], (D,)."""
        return np.asarray(self.weights @ self.means)

    @property
    def covariance(self) -> Float64:
        """Cov[x0], (D, D)."""
        apart = self.means - self.mean
        inner = float(self.weights @ self.widths**2) * np.eye(self.means.shape[1])
        return np.asarray(inner + (self.weights[:, None] * apart).T @ apart)

    def draw(self, count: int, seed: int) -> Float64:
        """``count`` exact samples, (count, D)."""
        rng = np.random.default_rng(seed)
        k = rng.choice(len(self.weights), count, p=self.weights)
        z = rng.standard_normal((count, self.means.shape[1]))
        return np.asarray(self.means[k] + self.widths[k, None] * z)

    def denoised(self, x: Float64, alpha: float, sigma: float) -> Float64:
        """E[x0 given x] for x = alpha x0 + sigma eps, (N, D).

        Mode k has variance v_k = alpha² s_k² + sigma² there and the responsibility
        r_k ~ w_k v_k^(-D/2) exp(-|x - alpha mu_k|² / 2 v_k); within it, the posterior mean is
        mu_k + (alpha s_k² / v_k) (x - alpha mu_k).
        """
        v = alpha**2 * self.widths**2 + sigma**2
        squared = np.sum(x**2, axis=1, keepdims=True) - 2.0 * alpha * x @ self.means.T
        squared = squared + alpha**2 * np.sum(self.means**2, axis=1)
        log_r = np.log(self.weights) - 0.5 * x.shape[1] * np.log(v) - 0.5 * squared / v
        r = np.exp(log_r - log_r.max(axis=1, keepdims=True))
        r /= r.sum(axis=1, keepdims=True)
        gain = alpha * self.widths**2 / v
        inside = self.means * (1.0 - alpha * gain)[:, None]
        return np.asarray(r @ inside + (r @ gain)[:, None] * x)

    def flow(self, y: Float64, level: float, end: float, steps: int = 2000) -> Float64:
        """The probability flow of y = x / alpha from noise level ``level`` to ``end``, (N, D).

        dy / du = y - E[x0 given y] over u = log(sigma / alpha): Runge and Kutta's classical method
        with ``steps`` and with twice as many steps, extrapolated to fifth order.
        """
        coarse = self._runge_kutta(y, level, end, steps)
        fine = self._runge_kutta(y, level, end, 2 * steps)
        return fine + (fine - coarse) / 15.0

    def _runge_kutta(self, y: Float64, level: float, end: float, steps: int) -> Float64:
        u, h = np.log(level), np.log(end / level) / steps
        for n in range(steps):
            at, middle, after = np.exp(u + h * np.array([n, n + 0.5, n + 1.0]))
            a = y - self.denoised(y, 1.0, at)
            b = y + 0.5 * h * a
            b = b - self.denoised(b, 1.0, middle)
            c = y + 0.5 * h * b
            c = c - self.denoised(c, 1.0, middle)
            d = y + h * c
            d = d - self.denoised(d, 1.0, after)
            y = y + h / 6.0 * (a + 2.0 * b + 2.0 * c + d)
        return y


class Denoised(Protocol):
    """Data whose posterior mean is known."""

    def denoised(self, x: Float64, alpha: float, sigma: float) -> Float64:
        """E[x0 given x]."""
        ...


class MixtureNetwork:
    """The perfect network for a mixture and a spec: what training would end at.

    It takes what the engine feeds a network, c_in x and the time, and gives the spec's prediction.
    """

    def __init__(self, mixture: Denoised, spec: DenoiserSpec) -> None:
        if not (spec.time.kind == "sigma" or spec.time.fractions):
            raise ValueError("the exact network needs exact times: time.fractions=True")
        self.mixture, self.spec = mixture, spec

    def __call__(self, x: Float64, time: float) -> Float64:
        """The network's output m, (N, D), for c_in x and the time that the row holds."""
        t = natural_time(self.spec, time)
        alpha, sigma = (float(v) for v in self.spec.schedule.alpha_sigma(t))
        if self.spec.prediction in PRECONDITIONED:
            x = x / input_scale(self.spec.prediction, alpha, sigma, self.spec.sigma_data)
        x0 = self.mixture.denoised(x, alpha, sigma)
        return prediction_of(self.spec, x, x0, (x - alpha * x0) / sigma, t)


def three_modes() -> Mixture:
    """Three modes in the plane, of unequal weights and widths."""
    return Mixture(
        weights=np.array([0.5, 0.3, 0.2]),
        means=np.array([[-1.0, -0.6], [1.1, -0.2], [0.1, 1.2]]),
        widths=np.array([0.35, 0.5, 0.25]),
    )


def training_points(count: int = 64, elements: int = 64) -> Mixture:
    """A training set of random points in [-1, 1]^D: the mixture of widths 0, evenly weighted."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.0, 1.0, (count, elements))
    return Mixture(np.full(count, 1.0 / count), points, np.zeros(count))
