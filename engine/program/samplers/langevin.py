r"""Samplers on the score: the reverse SDE, predictor and corrector, annealed Langevin dynamics.

.. math:: \nabla \log p_t(x) = -\epsilon / \sigma_t

References:
    Song & Ermon, "Generative modeling by estimating gradients of the data distribution", 2019,
    arXiv:1907.05600.

    Song et al., "Score-based generative modeling through stochastic differential equations", 2021,
    arXiv:2011.13456.

    Anderson, "Reverse-time diffusion equation models", 1982.
"""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.checks import check_bool, check_number, check_whole
from revstep.engine.log import log
from revstep.engine.program.samplers.base import BaseSampler, noise_level
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector

CORRECTORS = ("expected",)
TOO_NOISY = 2.0  # times a level's noise


@dataclasses.dataclass(frozen=True)
class PredictorCorrector(BaseSampler):
    r"""Reverse diffusion steps, each after Langevin steps at its time (Song et al. 2021, alg. 2-5).

    The corrector, and the predictor of Anderson's reverse SDE (eq. 46):

    .. math::
        x_t \leftarrow x_t + e\, \nabla \log p_t + \sqrt{2 e}\, z, \quad
            e = 2 (\mathrm{snr}\, \sigma_t\, r)^2 \\
        x_s = (2 - r)\, x_t + \beta\, \nabla \log p_t + \sqrt{\beta}\, z

    The paper's e has ||z|| / ||score|| where this has its expectation sigma_t: a norm of the
    sample is a reduction, which a table of numbers can't hold. The last step adds no noise, as in
    the authors' code; to sigma = 0 it returns x0.

    Attributes:
        snr: The paper's r: step size of the corrector, in parts of the noise.
        corrections: Corrector steps per time, each a network call.
        norms: ``expected``; the paper's norms of each sample are refused.
    """

    snr: float = 0.16
    corrections: int = 1
    norms: str = "expected"

    def __post_init__(self) -> None:
        check_number(self.snr, "snr", 0.0)
        check_whole(self.corrections, "corrections", 0)
        if self.norms not in CORRECTORS:
            raise ValueError(
                f"norms={self.norms!r}: a step size from each sample's own norms needs a sum over "
                "the sample, which a sampler's table can't hold; allowed: 'expected', the norms "
                "that noise and score have on average"
            )

    def __call__(self, run: Run) -> Vector:
        x = run.x
        for now, then in run.steps:
            r = now.alpha / then.alpha
            for _ in range(self.corrections):
                d = run.denoise(x, now)
                e = 2.0 * (self.snr * now.sigma * r) ** 2
                x = x - (e / now.sigma) * d.eps + math.sqrt(2.0 * e) * run.noise()
            d = run.denoise(x, now)
            if then.sigma == 0.0:
                x = then.alpha * d.x0
                continue
            variance = now.sigma**2 - r**2 * then.sigma**2
            std = 0.0 if then is run.steps[-1][1] else math.sqrt(variance)
            x = (2.0 - r) * x - (variance / now.sigma) * d.eps + std * run.noise()
        return x


@dataclasses.dataclass(frozen=True)
class ReverseSDE(PredictorCorrector):
    """The reverse SDE of Anderson 1982 and Song et al. 2021: the predictor without corrector."""

    corrections: int = 0


@dataclasses.dataclass(frozen=True)
class Langevin(BaseSampler):
    r"""Annealed Langevin dynamics (Song & Ermon 2019, algorithm 1) in y = x / alpha.

    At each noise level sigma_i of the grid, ``repeats`` times:

    .. math:: y \leftarrow y + \tfrac{a}{2} \nabla \log p_i(y) + \sqrt{a}\, z, \quad
        a = \mathrm{step} \cdot \sigma_i^2

    The run ends with one denoising call at the last level.

    Attributes:
        repeats: T, Langevin steps per level, each a network call.
        step: The paper's step size at the last level, in parts of its noise variance.
        denoise: Whether the run ends with x0 at the last level.
    """

    repeats: int = 5
    step: float = 0.3
    denoise: bool = True

    def __post_init__(self) -> None:
        check_whole(self.repeats, "repeats", 1)
        check_number(self.step, "step", 0.0)
        check_bool(self.denoise, "denoise")

    def __call__(self, run: Run) -> Vector:
        self._warn_of_noise([noise_level(now) for now, _ in run.steps])
        x = run.x
        at, end = run.steps[0][0], run.steps[-1][1]
        for now, _ in run.steps:
            sigma = noise_level(now)
            x = (now.alpha / at.alpha) * x if now is not at else x
            a = self.step * sigma**2
            for _ in range(self.repeats):
                d = run.denoise(x, now)
                x = x - (now.alpha * a / (2.0 * sigma)) * d.eps
                x = x + (now.alpha * math.sqrt(a)) * run.noise()
            at = now
        if self.denoise:
            x = end.alpha * run.denoise(x, at).x0
        return x

    def _warn_of_noise(self, levels: list[float]) -> None:
        """Warns where the steps don't bring the noise down to the levels: it is known beforehand.

        Where the score is that of noise alone, -(y - x0) / sigma², a step takes the variance v of
        the noise in y to (1 - step / 2)² v + step sigma².
        """
        v, excess, worst = levels[0] ** 2, 0.0, 0.0
        for sigma in levels:
            for _ in range(self.repeats):
                v = (1.0 - self.step / 2.0) ** 2 * v + self.step * sigma**2
            excess, worst = max((excess, worst), (math.sqrt(v) / sigma, sigma))
        if excess > TOO_NOISY:
            log.warning(
                "langevin arrives at noise level sigma / alpha = %.3g with %.3g times that noise: "
                "its samples will be broken. The levels lie too far apart for %d repeats of step "
                "%g: use more repeats or steps, or a grid that begins lower, such as "
                "ExponentialGrid(sigma_max=80)",
                *(worst, excess, self.repeats, self.step),
            )
