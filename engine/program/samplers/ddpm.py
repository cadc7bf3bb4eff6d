"""DDPM: ancestral sampling.

References:
    Ho, Jain & Abbeel, "Denoising diffusion probabilistic models", 2020, arXiv:2006.11239. Its bar
    alpha_t is alpha_t² here.

    Nichol & Dhariwal, "Improved denoising diffusion probabilistic models", 2021, arXiv:2102.09672,
    eq. 15 (learned variance).
"""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.checks import check_one_of
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import Point
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.samplers.ddim import ancestral_sigma
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector

VARIANCES = ("small", "large", "learned")
MIN_VARIANCE = 1e-20  # what the logarithm of a zero variance is taken of


@dataclasses.dataclass(frozen=True)
class DDPM(BaseSampler):
    r"""A draw from q(x_s | x_t, x_0) with the estimate of x_0 (Ho et al., eq. 6, 7), for any s < t.

    .. math::
        x_s = \frac{\alpha_s \beta}{\sigma_t^2} x_0 + \frac{r \sigma_s^2}{\sigma_t^2} x_t
              + \mathrm{std}\, z, \qquad \tilde\beta = \frac{\sigma_s^2}{\sigma_t^2} \beta

    Attributes:
        variance: std²: ``small`` is the posterior's own, beta~;
            ``large`` is beta; ``learned`` is interpolated by the network between the two (needs
            ``spec.learned_variance``). The last step adds no noise.
    """

    stepping = diffusers_stepping.DDPM
    variance: str = "small"

    def __post_init__(self) -> None:
        check_one_of(self.variance, "variance", VARIANCES)

    def __call__(self, run: Run) -> Vector:
        x = run.x
        for number, (now, then) in enumerate(run.steps):
            d = run.denoise(x, now)
            r = now.alpha / then.alpha
            beta = now.sigma**2 - r**2 * then.sigma**2
            x = (then.alpha * beta / now.sigma**2) * d.x0 + (r * then.sigma**2 / now.sigma**2) * x
            if number < len(run.steps) - 1 or (run.compat and now.t > 0.0):
                x = x + self._noise(run, now, then, beta)
        return x

    def _noise(self, run: Run, now: Point, then: Point, beta: float) -> Vector:
        small = ancestral_sigma(now, then)
        if self.variance == "small":
            return max(small, math.sqrt(MIN_VARIANCE)) * run.noise()
        if self.variance == "large":
            return math.sqrt(beta) * run.noise()
        ends = (max(v, MIN_VARIANCE) for v in (beta, small**2))
        return run.learned_noise(*map(math.log, ends))
