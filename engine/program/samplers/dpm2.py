"""DPM2, DPM-Solver-2 as Karras et al. 2022 write it, a midpoint method; and its ancestral form.

References:
    Lu et al., "DPM-Solver: a fast ODE solver for diffusion probabilistic model sampling in around
    10 steps", 2022, arXiv:2206.00927; k-diffusion's ``sample_dpm_2``.
"""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.checks import check_number
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import lambda_point
from revstep.engine.program.samplers.base import BaseSampler, noise_level
from revstep.engine.program.samplers.ddim import ancestral_sigma
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector
from revstep.engine.program.warn import warn_long_step


@dataclasses.dataclass(frozen=True)
class DPM2(BaseSampler):
    r"""A step with the slope at the geometric mean of its two noise levels.

    With the noise levels :math:`\varsigma = \sigma / \alpha`,

    .. math::
        y_m = y_t + (\varsigma_m - \varsigma_t)\, \epsilon_t, \quad
        y_s = y_t + (\varsigma_s - \varsigma_t)\, \epsilon_m, \quad
        \varsigma_m = \sqrt{\varsigma_t \varsigma_s}

    The geometric mean is the middle in lambda (Lu et al. 2022, DPM-Solver-2 with their r = 1/2).
    Two network calls per step; a last step to sigma = 0 is Euler's.

    Attributes:
        eta: Part of each step that goes too far down and comes back as noise; 0 is none.
    """

    stepping = diffusers_stepping.KDPM2
    eta: float = 0.0

    def __post_init__(self) -> None:
        check_number(self.eta, "eta", 0.0, 1.0)

    def __call__(self, run: Run) -> Vector:
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            if then.sigma == 0.0:
                x = then.alpha * d.x0
                continue
            sigma, end = noise_level(now), noise_level(then)
            eta = 0.0 if run.ends_at(then) else self.eta
            up = eta * ancestral_sigma(now, then) / then.alpha
            down = math.sqrt(end**2 - up**2)
            middle = math.sqrt(sigma * down)
            warn_long_step("dpm2", sigma, middle)
            between = lambda_point(run.spec, -math.log(middle))
            y = x / now.alpha
            e = run.denoise(between.alpha * (y + (middle - sigma) * d.eps), between)
            x = then.alpha * (y + (down - sigma) * e.eps + up * run.noise())
        return x


@dataclasses.dataclass(frozen=True)
class DPM2Ancestral(DPM2):
    """DPM2 with ancestral noise."""

    eta: float = 1.0
