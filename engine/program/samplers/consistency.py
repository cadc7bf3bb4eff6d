"""Few-step models: consistency models, latent and of trajectories, sampled in several steps.

References:
    Song, Dhariwal, Chen & Sutskever, "Consistency models", 2023, arXiv:2303.01469.

    Luo et al., "Latent consistency models", 2023, arXiv:2310.04378.

    Zheng et al., "Trajectory consistency distillation", 2024, arXiv:2402.19159. Its t, s and s'
    are t, u and s here.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from revstep.engine.checks import check_number, check_whole
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import WHOLE, Point, point
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.steps import Steps, step_count, steps_over
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector
from revstep.engine.renamed import renamed
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid, TimeGrid
from revstep.engine.spec.schedule.base import UnitTimeSchedule


@dataclasses.dataclass(frozen=True)
class Consistency(BaseSampler):
    r"""Multistep consistency sampling (Song et al. 2023, algorithm 1): denoise, noise again.

    .. math:: x_s = \alpha_s f(x_t, t) + \sqrt{\sigma_s^2 - \sigma_{min}^2}\, z

    f is the network's x_0. For a network of ``edm`` prediction it has the paper's boundary, with
    d = sigma_data, u = sigma - alpha sigma_min and F the network:

    .. math::
        f = c_{skip}\, x + c_{out} F, \quad
        c_{skip} = \frac{\alpha d^2}{u^2 + \alpha^2 d^2}, \quad
        c_{out} = \frac{u\, d}{\sqrt{\sigma^2 + \alpha^2 d^2}}

    With ``sigma_min=0`` it is also the few-step sampling of flows (FlowMatchLCM) and of TrigFlow
    networks (sCM, SANA-Sprint).

    Attributes:
        sigma_min: The noise level where f is the identity.
    """

    sigma_min: float = 0.002

    def __post_init__(self) -> None:
        check_number(self.sigma_min, "sigma_min", 0.0)

    def __call__(self, run: Run) -> Vector:
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now, estimate=self._boundary(run.spec, now))
            last = run.ends_at(then)
            std = 0.0 if last else math.sqrt(max(then.sigma**2 - self.sigma_min**2, 0.0))
            x = then.alpha * d.x0 + std * run.noise()
        return x

    @renamed(spacing="grid")
    def steps_over(
        self,
        spec: DenoiserSpec,
        steps: int | None,
        grid: str | Grid | None,
        compat: str | None,
    ) -> Steps:
        """The steps; with compat those of a consistency model's own scheduler: T // N indices."""
        total = spec.schedule.steps
        if compat and grid is None and spec.schedule.kind == "ve":
            count = step_count(spec, steps, spec.grid_of(None))
            indices = total - 1.0 - np.arange(count) * float(total // count)
            grid = TimeGrid(times=tuple(indices.tolist()))
        return super().steps_over(spec, steps, grid, compat)

    def _boundary(self, spec: DenoiserSpec, now: Point) -> tuple[float, float] | None:
        if spec.prediction != "edm":
            return None
        alpha, data = now.alpha, spec.sigma_data
        shifted = now.sigma - alpha * self.sigma_min
        norm = shifted**2 + (alpha * data) ** 2
        return alpha * data**2 / norm, shifted * data / math.hypot(now.sigma, alpha * data)


class _Distilled(BaseSampler):
    """A sampler of a model that was distilled from DDIM's steps, and is called at some of them."""

    original_steps: int

    @renamed(spacing="grid")
    def steps_over(
        self,
        spec: DenoiserSpec,
        steps: int | None,
        grid: str | Grid | None,
        compat: str | None,
    ) -> Steps:
        """Even picks of the distillation's own steps, unless a grid is given."""
        if grid is None and steps is not None:
            grid = self._picked(spec, steps)
        return steps_over(spec, steps, grid)

    def _picked(self, spec: DenoiserSpec, steps: int) -> TimeGrid:
        total, own = spec.schedule.steps, self.original_steps
        if own > total:
            raise ValueError(
                f"original_steps={own} is more than the {total} training steps of this schedule; "
                f"give those that the model was distilled from, as {type(self).__name__}"
                f"(original_steps={total}), or a grid"
            )
        check_whole(steps, "steps", 1, own, more=", as this model was distilled")
        origin = np.arange(own, 0, -1) * (total // own) - 1
        picks = np.floor(np.linspace(0, own, steps, endpoint=False))
        return TimeGrid(times=tuple(float(t) for t in origin[picks.astype(int)]))


@dataclasses.dataclass(frozen=True)
class LCM(_Distilled):
    r"""Latent consistency models (Luo et al. 2023): an estimate f of x_0, then noise again.

    .. math::
        f = \frac{d^2}{u^2 + d^2}\, x + \frac{u}{\sqrt{u^2 + d^2}}\, x_0, \quad
        u = \mathrm{scaling} \cdot t, \quad d = 0.5

    t is the training index here.

    Attributes:
        original_steps: DDIM steps that the model was distilled from; calls are at some of these.
        scaling: Factor on the training index; the published models have 10.
    """

    original_steps: int = 50
    scaling: float = 10.0

    def __post_init__(self) -> None:
        check_whole(self.original_steps, "original_steps", 1)
        check_number(self.scaling, "scaling", 0.0)

    def __call__(self, run: Run) -> Vector:
        x, data = run.x, 0.5
        for now, then in run.steps:
            d = run.denoise(x, now)
            u = self.scaling * now.index
            c_skip, c_out = data**2 / (u**2 + data**2), u / math.hypot(u, data)
            std = 0.0 if run.ends_at(then) else then.sigma
            x = then.alpha * (c_skip * x + c_out * d.x0) + std * run.noise()
        return x


@dataclasses.dataclass(frozen=True)
class TCD(_Distilled):
    r"""Trajectory consistency (Zheng et al. 2024): a jump past s, to u, then noise up to s.

    .. math::
        x_s = \frac{\alpha_s}{\alpha_u} (\alpha_u x_0 + \sigma_u \epsilon)
              + \sqrt{\sigma_s^2 - \frac{\alpha_s^2}{\alpha_u^2} \sigma_u^2}\, z

    The training index of u is 1 - gamma times that of s, cut to a whole one but where time is
    continuous. The last step goes to its end without noise.

    Attributes:
        gamma: 0 is DDIM; 1 jumps to the clean end, as ``consistency`` does. (diffusers' ``eta``.)
        original_steps: DDIM steps that the model was distilled from; calls are at some of these.
    """

    stepping = diffusers_stepping.TCD
    gamma: float = 0.3
    original_steps: int = 50

    def __post_init__(self) -> None:
        check_number(self.gamma, "gamma", 0.0, 1.0)
        check_whole(self.original_steps, "original_steps", 1)

    def __call__(self, run: Run) -> Vector:
        x, schedule = run.x, run.spec.schedule
        for now, then in run.steps:
            d = run.denoise(x, now)
            low = then
            if self.gamma > 0.0 and then is not run.steps[-1][1]:
                index = (1.0 - self.gamma) * then.index
                index = (
                    index if isinstance(schedule, UnitTimeSchedule) else math.floor(index + WHOLE)
                )
                low = point(run.spec, float(schedule.from_index(index)))
            ratio = then.alpha / low.alpha
            x = then.alpha * d.x0 + (ratio * low.sigma) * d.eps
            up = then.sigma**2 - (ratio * low.sigma) ** 2
            if low is not then and up > 0.0:
                x = x + math.sqrt(up) * run.noise()
        return x
