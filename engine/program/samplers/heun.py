"""Heun's method and the stochastic sampler of EDM.

References:
    Karras, Aittala, Aila & Laine, "Elucidating the design space of diffusion-based generative
    models", 2022, arXiv:2206.00364. Its sigma is sigma / alpha here, its x is x / alpha.
"""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.checks import check_number, check_whole
from revstep.engine.log import log
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import Point, lambda_point
from revstep.engine.program.samplers.base import BaseSampler, noise_level
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector
from revstep.engine.program.warn import warn_long_step
from revstep.engine.spec.denoiser import DenoiserSpec

MAX_CHURN = math.sqrt(2.0) - 1.0


def heun_step(run: Run, x: Vector, now: Point, then: Point) -> Vector:
    """Algorithm 1, lines 4 to 8: Euler to ``then``, and again with the mean of both slopes."""
    d = run.denoise(x, now)
    if then.sigma == 0.0:
        return then.alpha * d.x0
    high, low = noise_level(now), noise_level(then)
    warn_long_step("Heun's method", high, low)
    h = low - high
    y = x / now.alpha
    e = run.denoise(then.alpha * (y + h * d.eps), then)
    return then.alpha * (y + h * (0.5 * d.eps + 0.5 * e.eps))


@dataclasses.dataclass(frozen=True)
class Heun(BaseSampler):
    r"""Heun's second-order method on d(x / alpha) / d(sigma / alpha) = eps (algorithm 1).

    .. math::
        \frac{x_s}{\alpha_s} = \frac{x_t}{\alpha_t}
            + \left( \frac{\sigma_s}{\alpha_s} - \frac{\sigma_t}{\alpha_t} \right)
              \frac{\epsilon_t + \epsilon_s}{2}

    Two network calls per step; a last step to sigma = 0 is Euler's.
    """

    stepping = diffusers_stepping.HEUN

    def __call__(self, run: Run) -> Vector:
        x = run.x
        for now, then in run.steps:
            x = heun_step(run, x, now, then)
        return x


@dataclasses.dataclass(frozen=True)
class EDM(BaseSampler):
    r"""EDM's stochastic sampler (algorithm 2): noise is added, then more of it removed.

    Each of the N steps first rises from its noise level to

    .. math:: \hat\sigma = (1 + \gamma)\, \sigma, \quad
        \gamma = \min(S_{churn} / N, \sqrt{2} - 1)

    That noise is drawn in the row before; the first step's is in the start.

    Attributes:
        churn: S_churn; 0 is Heun.
        low: S_tmin: below this noise level nothing is added.
        high: S_tmax: above this level, or where the rise would leave the schedule, neither.
        scale: S_noise: factor on the added noise.
        order: 2 is Heun's step; 1 is Euler's.
    """

    churn: float = 0.0
    low: float = 0.0
    high: float = math.inf
    scale: float = 1.0
    order: int = 2

    def __post_init__(self) -> None:
        for name in ("churn", "low", "scale"):
            check_number(getattr(self, name), name, 0.0)
        check_number(self.high, "high", self.low)
        check_whole(self.order, "order", 1, 2, more=": Euler's or Heun's")

    def __call__(self, run: Run) -> Vector:
        gamma = min(self.churn / len(run.steps), MAX_CHURN)
        calls = [self._raised(run.spec, now, gamma) for now, _ in run.steps]
        self._warn_of_dropped(run, calls, gamma)
        x, first = run.x, run.steps[0][0]
        if calls[0] is not first:
            run.start_at(calls[0].alpha, self._spread(first, calls[0], kept=1.0))
        for number, (now, (_, then)) in enumerate(zip(calls, run.steps, strict=True)):
            if self.order == 2:
                x = heun_step(run, x, now, then)
            else:
                d = run.denoise(x, now)
                x = then.alpha * d.x0 + then.sigma * d.eps
            after = calls[number + 1] if number + 1 < len(calls) else then
            if after.sigma > then.sigma:
                x = (after.alpha / then.alpha) * x + self._spread(then, after) * run.noise()
        return x

    def _raised(self, spec: DenoiserSpec, at: Point, gamma: float) -> Point:
        if gamma == 0.0 or not self.low <= (level := noise_level(at)) <= self.high:
            return at
        try:
            return lambda_point(spec, -math.log(level * (1.0 + gamma)))
        except ValueError:  # noisier than the training ever was
            return at

    def _warn_of_dropped(self, run: Run, calls: list[Point], gamma: float) -> None:
        """Warns of the levels, within those asked for, where no noise could be added."""
        starts = [now for now, _ in run.steps]
        dropped = [
            noise_level(now)
            for now, call in zip(starts, calls, strict=True)
            if gamma > 0.0 and call is now and self.low <= noise_level(now) <= self.high
        ]
        if dropped:
            log.warning(
                "edm adds no noise at %d of %d steps, those from noise level sigma / alpha = %.4g "
                "up: it would rise above what the network was trained for. With EDM(high=%.4g) "
                "that is your own choice",
                *(len(dropped), len(starts), min(dropped), 0.99 * min(dropped)),
            )

    def _spread(self, low: Point, high: Point, kept: float = 0.0) -> float:
        """Deviation in x at ``high`` of the added noise, and of ``kept`` times what was there."""
        before, after = noise_level(low), noise_level(high)
        added = max(after**2 - before**2, 0.0)
        return high.alpha * math.sqrt(kept * before**2 + self.scale**2 * added)
