"""One Gaussian mode: the law that a stochastic sampler arrives at, without drawing a sample.

The denoiser of N(mu, s²) is affine, so the final state is an affine function of all the noises: its
mean and deviation follow from the table alone. Their distance to the true law is exact.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from proofs.float64_rows import run_rows
from proofs.theory.mixture import Float64, MixtureNetwork
from revstep.engine.program.table import StepProgram
from revstep.engine.spec.denoiser import DenoiserSpec

Level = tuple[float, float]
"""(alpha, sigma)."""


@dataclasses.dataclass(frozen=True)
class OneMode:
    """N(mean, width²) on a line; a state is its coefficients over (1, z_start, z_0, z_1, ...)."""

    mean: float = 1.0
    width: float = 0.5

    def denoised(self, x: Float64, alpha: float, sigma: float) -> Float64:
        """The coefficients of E[x0 given x] = mu + alpha s² / v (x - alpha mu), v that of x."""
        gain = alpha * self.width**2 / (alpha**2 * self.width**2 + sigma**2)
        found = gain * x
        found[0] += self.mean * (1.0 - alpha * gain)
        return found

    def flow(self, x: Float64, now: Level, then: Level) -> Float64:
        """The coefficients of the state at ``then`` on the probability flow through x at ``now``.

        The flow keeps the place of a state in its law: the score of a Gaussian is affine.
        """
        (mean, deviation), (mean_then, deviation_then) = self.law(*now), self.law(*then)
        found = deviation_then / deviation * x
        found[0] += mean_then - deviation_then / deviation * mean
        return found

    def law(self, alpha: float, sigma: float) -> tuple[float, float]:
        """Mean and deviation of alpha x0 + sigma eps."""
        return alpha * self.mean, math.hypot(alpha * self.width, sigma)


def law_error(
    spec: DenoiserSpec,
    program: StepProgram,
    noise_scale: float = 1.0,
    network: Callable[..., Float64] | None = None,
) -> float:
    """The 2-Wasserstein distance, at the end of a run that started from the exact law.

    For two Gaussians on a line it is sqrt((difference of means)² + (difference of deviations)²).
    Without a network it is that of the mode's exact denoiser.
    """
    mode = OneMode()
    names = np.eye(2 + program.length)
    mean, deviation = mode.law(program.points[0].alpha, program.points[0].sigma)
    x, _ = run_rows(
        program,
        mean * names[0] + deviation * names[1],
        network or MixtureNetwork(mode, spec),
        lambda row: noise_scale * names[2 + row],
        two_times=spec.second_time is not None,
    )
    mean, deviation = mode.law(program.points[-1].alpha, program.points[-1].sigma)
    return math.hypot(x[0] - mean, float(np.linalg.norm(x[1:])) - deviation)
