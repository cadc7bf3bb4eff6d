"""DDIM.

References:
    Song, Meng & Ermon, "Denoising diffusion implicit models", 2021, arXiv:2010.02502. Its alpha_t
    is alpha_t² here.
"""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.checks import check_number, check_one_of
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import Point
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector


def ancestral_sigma(now: Point, then: Point) -> float:
    r"""Standard deviation of q(x_s | x_t, x_0): eq. 16 with eta = 1, for any (alpha, sigma).

    .. math:: \frac{\sigma_s}{\sigma_t} \sqrt{\sigma_t^2 - r^2 \sigma_s^2}
    """
    if now.sigma == 0.0:
        return 0.0
    ratio = now.alpha / then.alpha
    return then.sigma / now.sigma * math.sqrt(max(now.sigma**2 - ratio**2 * then.sigma**2, 0.0))


@dataclasses.dataclass(frozen=True)
class DDIM(BaseSampler):
    r"""The estimate of x_0, noised again to the level of s; a part of the noise is new (eq. 12).

    .. math:: x_s = \alpha_s x_0 + \sqrt{\sigma_s^2 - \mathrm{std}^2}\, \epsilon + \mathrm{std}\, z

    std is eta times the standard deviation of q(x_s | x_t, x_0) (eq. 16).

    Attributes:
        eta: 0 is deterministic; 1 is DDPM with the small variance.
        epsilon: ``rederive`` takes eps from the clipped x0 (the original code); ``keep`` takes the
            network's own (diffusers' default). The same without clipping. None is ``rederive``, or
            with compat ``keep``.
    """

    stepping = diffusers_stepping.DDIM
    like_ddim = True
    eta: float = 0.0
    epsilon: str | None = None

    def __post_init__(self) -> None:
        check_number(self.eta, "eta", 0.0, 1.0)
        if self.epsilon is not None:
            check_one_of(self.epsilon, "epsilon", ("rederive", "keep"))

    def __call__(self, run: Run) -> Vector:
        x = run.x
        keep = self.epsilon == "keep" or (self.epsilon is None and run.compat)
        for now, then in run.steps:
            d = run.denoise(x, now)
            eps = d.raw_eps if keep else d.eps
            std = 0.0 if run.ends_at(then) else self.eta * ancestral_sigma(now, then)
            kept = math.sqrt(max(then.sigma**2 - std**2, 0.0))
            x = then.alpha * d.x0 + kept * eps + std * run.noise()
        return x
