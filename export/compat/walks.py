"""Samplers over steps that are given, and what of diffusers' own a sampler here has no need of."""

from __future__ import annotations

import dataclasses

from revstep.engine.program.points import Point
from revstep.engine.program.samplers import LMS, PNDM, BaseSampler
from revstep.engine.program.samplers.base import noise_level
from revstep.engine.program.samplers.linear_multistep import (
    adams_bashforth,
    lagrange_integrals,
    transfer,
)
from revstep.engine.program.steps import Steps
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid


@dataclasses.dataclass(frozen=True)
class Over(BaseSampler):
    """A sampler over given steps, whatever the spec's grid."""

    sampler: BaseSampler
    steps: Steps

    def __call__(self, run: Run) -> Vector:
        """The sampler's own walk."""
        return self.sampler(run)

    def steps_over(
        self, spec: DenoiserSpec, steps: int | None, grid: str | Grid | None, compat: str | None
    ) -> Steps:
        """Those given."""
        return self.steps


@dataclasses.dataclass(frozen=True)
class LMSFrom(LMS):
    """LMSDiscreteScheduler's run from the middle: of full order at once, with slopes left out.

    Its weights count the levels before the first call, whose slopes it never saw.

    Attributes:
        before: Noise levels before the first call, from the noisiest.
    """

    before: tuple[float, ...] = ()

    def __call__(self, run: Run) -> Vector:
        """Walks from ``run.x``."""
        x = run.x
        past: list[Vector] = []
        levels = list(reversed(self.before))
        for now, then in run.steps:
            d = run.denoise(x, now)
            past = [d.eps, *past][: self.order]
            levels = [noise_level(now), *levels][: self.order]
            weights = lagrange_integrals(levels, noise_level(then))
            slope = sum(w * eps for w, eps in zip(weights, past, strict=False))
            x = then.alpha * (x / now.alpha + slope)
        return x


@dataclasses.dataclass(frozen=True)
class PLMS(PNDM):
    """PNDMScheduler over the timesteps that it is given, from any of them on.

    Its second call goes once more over a step of its own length to where that call is, from the
    first sample, even where the run began in the middle and no timestep comes twice.

    Attributes:
        above: Where the second call's step begins; None for a run of one call.
    """

    above: Point | None = None

    def __call__(self, run: Run) -> Vector:
        """Walks from ``run.x``; a step is a call."""
        x = base = run.x
        past: list[Vector] = []
        for number, (now, then) in enumerate(run.steps):
            d = run.denoise(x, now)
            output = self._output(run, d)
            if number == 1:
                assert self.above is not None
                mean = 0.5 * past[0] + 0.5 * output
                x = transfer(base, self._noise(run, mean, base, self.above), self.above, now)
                continue
            past = [output, *past][:4]
            x = transfer(x, self._noise(run, adams_bashforth(past), x, now), now, then)
        return x
