"""The denoiser of the proofs: smooth, nonlinear, and well-behaved for every prediction."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from proofs.predictions import Float64, interval_end, natural_time, prediction_of
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.prediction import PRECONDITIONED

__all__ = ["SHAPE", "Float64", "TestNetwork"]

SHAPE = (2, 3, 4, 4)  # of the compared states
SPREAD = 0.8  # deviation of the data around the centre


@dataclasses.dataclass(frozen=True)
class TestNetwork:
    """The posterior mean of N(mu, 0.8²) data whose centre mu bends with the state and the time.

    x0 = (alpha s² x + sigma² mu) / (alpha² s² + sigma²) and eps = (x - alpha x0) / sigma are of
    order 1 at every noise level; what a spec's prediction asks for is made of the two. Of two
    times, the centre bends with the end of the interval too.
    """

    __test__ = False  # no test of pytest's

    spec: DenoiserSpec

    def estimate(
        self, x: Float64, alpha: float, sigma: float, end: tuple[float, float] | None = None
    ) -> tuple[Float64, Float64]:
        """(x0, eps) for the state ``x`` of that (alpha, sigma), on the way to ``end``."""
        unit = x / math.hypot(alpha, sigma)
        shift = 0.3 * math.sin(5.0 * sigma / (alpha + sigma))
        if end is not None:
            shift += 0.4 * math.cos(3.0 * end[1] / (end[0] + end[1]))
        mu = 1.2 * np.tanh(0.7 * unit + 0.4 * unit[:, ::-1] + shift)
        total = alpha**2 * SPREAD**2 + sigma**2
        return (alpha * SPREAD**2 * x + sigma**2 * mu) / total, sigma * (x - alpha * mu) / total

    def output(self, fed: Float64, time: float, second: float | None = None) -> Float64:
        """The output of the spec's network for that state and time, or times."""
        t = natural_time(self.spec, float(time))
        alpha, sigma = (float(v) for v in self.spec.schedule.alpha_sigma(t))
        end = None if second is None else interval_end(self.spec, float(time), float(second))
        x = fed
        if self.spec.prediction in PRECONDITIONED:
            x = fed * math.hypot(sigma, alpha * self.spec.sigma_data)
        x0, eps = self.estimate(x, alpha, sigma, end)
        return prediction_of(self.spec, x, x0, eps, t, end)
