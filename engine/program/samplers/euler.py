"""Euler's method on the probability-flow ODE, and its ancestral form.

References:
    Song et al., "Score-based generative modeling through stochastic differential equations", 2021,
    arXiv:2011.13456, eq. 13.

    Karras et al., "Elucidating the design space of diffusion-based generative models", 2022,
    arXiv:2206.00364, eq. 4; k-diffusion's ``sample_euler_ancestral``.
"""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.checks import check_number
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.samplers.ddim import ancestral_sigma
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector


@dataclasses.dataclass(frozen=True)
class Euler(BaseSampler):
    r"""Euler's step on d(x / alpha) / d(sigma / alpha) = eps.

    .. math::
        \frac{x_s}{\alpha_s} = \frac{x_t}{\alpha_t}
            + \left( \frac{\sigma_s}{\alpha_s} - \frac{\sigma_t}{\alpha_t} \right) \epsilon
        \quad\Leftrightarrow\quad x_s = \alpha_s x_0 + \sigma_s \epsilon

    The second form has a limit where alpha_t = 0. It is DDIM's step without noise and, on a flow
    schedule, Euler's on the velocity.
    """

    stepping = diffusers_stepping.EULER

    def __call__(self, run: Run) -> Vector:
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = then.alpha * d.x0 + then.sigma * d.eps
        return x


@dataclasses.dataclass(frozen=True)
class EulerAncestral(BaseSampler):
    r"""Euler's step down to sigma_down, then noise of sigma_up; DDIM's step with the same eta.

    .. math::
        x_s = \alpha_s x_0 + \sigma_{down}\, \epsilon + \sigma_{up}\, z, \quad
        \sigma_{up}^2 + \sigma_{down}^2 = \sigma_s^2

    Attributes:
        eta: 0 is Euler; 1 takes sigma_up from the posterior.
    """

    stepping = diffusers_stepping.EULER
    eta: float = 1.0

    def __post_init__(self) -> None:
        check_number(self.eta, "eta", 0.0, 1.0)

    def __call__(self, run: Run) -> Vector:
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            up = 0.0 if run.ends_at(then) else self.eta * ancestral_sigma(now, then)
            down = math.sqrt(max(then.sigma**2 - up**2, 0.0))
            x = then.alpha * d.x0 + down * d.eps
            if up > 0.0:  # float32 levels, with compat, end a little below 0
                x = x + up * run.noise()
        return x
