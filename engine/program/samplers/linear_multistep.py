"""Linear multistep methods on the noise: LMS, iPNDM and PNDM.

References:
    Liu, Ren, Lin & Zhao, "Pseudo numerical methods for diffusion models on manifolds", 2022,
    arXiv:2202.09778 (PNDM).

    Zhang & Chen, "Fast sampling of diffusion models with exponential integrator", 2023,
    arXiv:2204.13902 (iPNDM); k-diffusion's ``sample_lms``.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import numpy as np

from revstep.engine.checks import check_bool, check_whole
from revstep.engine.errors import ProgramError
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import Point, point, points_at
from revstep.engine.program.samplers.base import BaseSampler, noise_level
from revstep.engine.program.steps import Steps, step_count
from revstep.engine.program.trace import Estimate, Run
from revstep.engine.program.vector import Vector
from revstep.engine.program.warn import warn_long_step
from revstep.engine.renamed import renamed
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid

ADAMS_BASHFORTH = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


def adams_bashforth(past: Sequence[Vector]) -> Vector:
    """The weighted mean of past values, newest first, for even steps."""
    weights = ADAMS_BASHFORTH[len(past) - 1]
    return sum(
        (w * value for w, value in zip(weights[1:], past[1:], strict=True)), past[0] * weights[0]
    )


def _check_order(name: str, order: int) -> None:
    check_whole(order, "order", 1)
    if order > 4:
        raise ProgramError(
            f"order={order} is refused: it needs the noise of {order - 1} earlier calls, and a row "
            f"reads three stored values. Take {name!r} of order 1 to 4"
        )


def transfer(x: Vector, eps: Vector, now: Point, then: Point) -> Vector:
    r"""Phi of PNDM for a given noise (eq. 9).

    .. math:: \alpha_s \frac{x_t - \sigma_t \epsilon}{\alpha_t} + \sigma_s \epsilon
    """
    ratio = then.alpha / now.alpha
    return ratio * x + (then.sigma - ratio * now.sigma) * eps


@dataclasses.dataclass(frozen=True)
class LMS(BaseSampler):
    r"""Linear multistep on d(x / alpha) / d(sigma / alpha) = eps, over uneven noise levels.

    .. math::
        \frac{x_s}{\alpha_s} = \frac{x_t}{\alpha_t} + \sum_j \epsilon_j
            \int_{\varsigma_t}^{\varsigma_s} \ell_j(\varsigma)\, d\varsigma, \quad
        \ell_j(\varsigma) = \prod_{k \ne j}
            \frac{\varsigma - \varsigma_k}{\varsigma_j - \varsigma_k}

    Here :math:`\varsigma = \sigma / \alpha`, and j counts the last calls: Adams and Bashforth's
    method. The first steps are of lower order.

    Attributes:
        order: 1 to 4: the noises of so many calls.
    """

    stepping = diffusers_stepping.LMS
    order: int = 3

    def __post_init__(self) -> None:
        _check_order("lms", self.order)

    def __call__(self, run: Run) -> Vector:
        x = run.x
        past: list[Vector] = []
        levels: list[float] = []
        for now, then in run.steps:
            d = run.denoise(x, now)
            if now.alpha == 0.0:  # Euler's step has a limit there; its noise level has none
                x = then.alpha * d.x0 + then.sigma * d.eps
                continue
            past = [d.eps, *past][: self.order]
            levels = [noise_level(now), *levels][: self.order]
            weights = lagrange_integrals(levels, noise_level(then))
            slope = sum(w * eps for w, eps in zip(weights, past, strict=True))
            x = then.alpha * (x / now.alpha + slope)
        return x


def lagrange_integrals(levels: Sequence[float], end: float) -> list[float]:
    """The integral from ``levels[0]`` to ``end`` of each Lagrange polynomial over the levels."""
    found = []
    for j, own in enumerate(levels):
        others = [level for k, level in enumerate(levels) if k != j]
        basis = np.polynomial.Polynomial([1.0])
        for other in others:  # written about levels[0], so that no digits cancel
            shift = levels[0] - other
            basis = basis * np.polynomial.Polynomial([shift, 1.0]) / (own - other)
        found.append(float(basis.integ()(end - levels[0])))
    return found


@dataclasses.dataclass(frozen=True)
class IPNDM(BaseSampler):
    r"""Improved PNDM (Zhang & Chen 2023): Adams and Bashforth's mean of eps, then DDIM's step.

    .. math:: \bar\epsilon = (55\, \epsilon_0 - 59\, \epsilon_1 + 37\, \epsilon_2
        - 9\, \epsilon_3) / 24

    The weights are those of even steps, whatever the grid; the first steps are of lower order.

    With compat over TrigFlow it is diffusers' IPNDMScheduler (Dance Diffusion): sin t falls as
    sin²(k/N pi/2), and the first call, where alpha = 0, counts as noise alone.

    Attributes:
        order: 1 (DDIM) to 4.
    """

    order: int = 4

    def __post_init__(self) -> None:
        _check_order("ipndm", self.order)

    def __call__(self, run: Run) -> Vector:
        x = run.x
        past: list[Vector] = []
        for now, then in run.steps:
            d = run.denoise(x, now)
            past = [d.eps, *past][: self.order]
            if now.alpha == 0.0 and _as_ipndm_scheduler(run.spec, run.compat):
                x = then.sigma * d.eps
            elif len(past) == 1:
                x = then.alpha * d.x0 + then.sigma * d.eps  # DDIM, also where alpha = 0
            else:
                x = transfer(x, adams_bashforth(past), now, then)
        return x

    @renamed(spacing="grid")
    def steps_over(
        self, spec: DenoiserSpec, steps: int | None, grid: str | Grid | None, compat: str | None
    ) -> Steps:
        """The steps; with compat over TrigFlow those of diffusers' scheduler."""
        if grid is not None or not _as_ipndm_scheduler(spec, compat):
            return super().steps_over(spec, steps, grid, compat)
        count = step_count(spec, steps, spec.grid_of(None))
        left = 1.0 - np.arange(count + 1) / count
        points = points_at(spec, np.arcsin(np.sin(left * math.pi / 2.0) ** 2))
        return tuple(itertools.pairwise(points))


def _as_ipndm_scheduler(spec: DenoiserSpec, compat: str | None) -> bool:
    return bool(compat) and spec.schedule.kind == "trigflow"


@dataclasses.dataclass(frozen=True)
class PNDM(BaseSampler):
    """Pseudo linear multistep (Liu et al. 2022), started by Heun's method: N + 1 network calls.

    diffusers' PNDMScheduler with ``skip_prk_steps=True``, as Stable Diffusion uses it. The paper's
    start by Runge and Kutta's method needs more than three stored values next to the state in its
    third step, more than a row of the kernel can hold: it is refused.

    Attributes:
        skip_prk_steps: True; False, the paper's start, is refused.
    """

    stepping = diffusers_stepping.PNDM
    like_ddim = True
    skip_prk_steps: bool = True

    def __post_init__(self) -> None:
        if not check_bool(self.skip_prk_steps, "skip_prk_steps"):
            raise ProgramError(
                "skip_prk_steps=False is refused: a start by Runge and Kutta's method needs more "
                "than the three stored values that a row reads. Leave it out: the first step is "
                "Heun's then, as in Stable Diffusion"
            )

    def __call__(self, run: Run) -> Vector:
        if run.compat and run.spec.schedule.kind == "vp" and len(run.steps) > 1:
            return self._as_diffusers(run)
        x = run.x
        past: list[Vector] = []
        for number, (now, then) in enumerate(run.steps):
            base = x
            d = run.denoise(base, now)
            if number == 0:
                first = d.eps
                x = then.alpha * d.x0 + then.sigma * first  # DDIM, also where alpha = 0
                if len(run.steps) > 1:
                    high = noise_level(now)  # refuses alpha = 0: no mean of slopes leads from there
                    warn_long_step("pndm", high, noise_level(then))
                    e = run.denoise(x, then)
                    x = transfer(base, 0.5 * first + 0.5 * e.eps, now, then)
                past = [first]
                continue
            past = [d.eps, *past][:4]
            x = transfer(base, adams_bashforth(past), now, then)
        return x

    def _as_diffusers(self, run: Run) -> Vector:
        """With compat: diffusers' PNDMScheduler, also where its steps are not the grid's.

        Every step is T // N indices long. The second call is fed the grid's own next time, and
        corrects a step of that length that ends there; outputs of a v-prediction network are
        averaged as they are, though they belong to different times.
        """
        (start, end), (second, _) = run.steps[:2]
        warn_long_step("pndm", noise_level(start), noise_level(end))  # refuses alpha = 0
        base = run.x
        d = run.denoise(base, start)
        first = self._output(run, d)
        x = transfer(base, self._noise(run, first, base, start), start, end)
        e = run.denoise(x, second)
        mean = 0.5 * first + 0.5 * self._output(run, e)
        stride = start.index - end.index if end.index >= 0.0 else start.index - second.index
        above = point(run.spec, float(run.spec.schedule.from_index(second.index + stride)))
        x = transfer(base, self._noise(run, mean, base, above), above, second)
        past = [first]
        for now, then in run.steps[1:]:
            d = run.denoise(x, now)
            past = [self._output(run, d), *past][:4]
            x = transfer(x, self._noise(run, adams_bashforth(past), x, now), now, then)
        return x

    @staticmethod
    def _output(run: Run, d: Estimate) -> Vector:
        return d.m if _averages_v(run) else d.eps

    @staticmethod
    def _noise(run: Run, output: Vector, x: Vector, at: Point) -> Vector:
        return at.alpha * output + at.sigma * x if _averages_v(run) else output


def _averages_v(run: Run) -> bool:
    return run.spec.prediction == "v_prediction" and not run.clip
