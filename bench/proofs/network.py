"""The denoiser of the proofs: smooth, nonlinear, and well-behaved for every prediction."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec import DenoiserSpec

__all__ = ["SHAPE", "Float64", "TestNetwork"]

Float64 = NDArray[np.float64]

SHAPE = (2, 3, 4, 4)  # of the compared states
SPREAD = 0.8  # deviation of the data around the centre


@dataclasses.dataclass(frozen=True)
class TestNetwork:
    """The posterior mean of N(mu, 0.8²) data whose centre mu bends with the state and the time.

    x0 = (alpha s² x + sigma² mu) / (alpha² s² + sigma²) and eps = (x - alpha x0) / sigma are of
    order 1 at every noise level; what a spec's prediction asks for is made of the two.
    """

    __test__ = False  # no test of pytest's

    spec: DenoiserSpec

    def estimate(self, x: Float64, alpha: float, sigma: float) -> tuple[Float64, Float64]:
        """(x0, eps) for the state ``x`` of that (alpha, sigma)."""
        unit = x / math.hypot(alpha, sigma)
        shift = 0.3 * math.sin(5.0 * sigma / (alpha + sigma))
        mu = 1.2 * np.tanh(0.7 * unit + 0.4 * unit[:, ::-1] + shift)
        total = alpha**2 * SPREAD**2 + sigma**2
        return (alpha * SPREAD**2 * x + sigma**2 * mu) / total, sigma * (x - alpha * mu) / total

    def output(self, fed: Float64, time: float) -> Float64:
        """What the spec's network answers when it is fed that state and time."""
        natural = self.natural_time(float(time))
        alpha, sigma = (float(v) for v in self.spec.schedule.alpha_sigma(natural))
        x = fed
        if self.spec.prediction == "edm":  # F of D = c_skip x + c_out F(c_in x)
            data = self.spec.sigma_data
            norm = math.hypot(sigma, data)
            x = fed * norm
            x0, _ = self.estimate(x, alpha, sigma)
            return (x0 - (data / norm) ** 2 * x) / (sigma * data / norm)
        x0, eps = self.estimate(x, alpha, sigma)
        match self.spec.prediction:
            case "epsilon":
                return eps
            case "sample":
                return x0
            case "v_prediction":
                return alpha * eps - sigma * x0
            case "flow":
                return eps - x0
            case "score":
                return -eps / sigma
        return self._mean(x, x0, natural, alpha, sigma)

    def natural_time(self, time: float) -> float:
        """Natural time of the schedule, from what the network is told."""
        match self.spec.time.kind:
            case "index":
                return float(self.spec.schedule.from_index(time))
            case "thousand":
                return time / 1000.0
            case "log_sigma":
                return math.exp(4.0 * time)
        return time

    def _mean(self, x: Float64, x0: Float64, t: float, alpha: float, sigma: float) -> Float64:
        """Mean of q(x_s | x_t, x0), s one training step before t (Ho et al. 2020, eq. 7)."""
        schedule = self.spec.schedule
        index = float(schedule.index(t)) - self.spec.training_step
        alpha_s, sigma_s = (
            float(v) for v in schedule.alpha_sigma(schedule.from_index(max(index, -1.0)))
        )
        ratio = alpha / alpha_s
        variance = sigma**2 - ratio**2 * sigma_s**2
        return (alpha_s * variance * x0 + ratio * sigma_s**2 * x) / sigma**2
