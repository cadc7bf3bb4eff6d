r"""Flow matching: methods on the velocity, with alpha = 1 - t and sigma = t.

.. math:: v = \frac{dx}{dt} = \epsilon - x_0

References:
    Lipman et al., "Flow matching for generative modeling", 2023, arXiv:2210.02747.

    Liu, Gong & Liu, "Flow straight and fast", 2023, arXiv:2209.03003. The time of both papers runs
    the other way.

    ComfyUI's ``sample_euler_ancestral_RF``, and diffusers' LTXEulerAncestralRFScheduler.
"""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.checks import check_number
from revstep.engine.errors import ProgramError
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector


def check_flow(run: Run, name: str) -> None:
    """Refuses other schedules than flow's."""
    if run.spec.schedule.kind != "flow":
        raise ProgramError(
            f"{name!r} follows a flow schedule's velocity; this denoiser's schedule is "
            f"{run.spec.schedule.kind!r}: use {name.removeprefix('flow_')!r}"
        )


@dataclasses.dataclass(frozen=True)
class FlowEuler(BaseSampler):
    r"""Euler's method: :math:`x_s = x_t + (s - t)\, v`."""

    def __call__(self, run: Run) -> Vector:
        check_flow(run, "flow_euler")
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = x + (then.t - now.t) * (d.eps - d.x0)
        return x


@dataclasses.dataclass(frozen=True)
class FlowHeun(BaseSampler):
    r"""Heun's method: :math:`x_s = x_t + (s - t)\, (v_t + v_s) / 2`.

    Two network calls per step; the last, to t = 0, is Euler's.
    """

    def __call__(self, run: Run) -> Vector:
        check_flow(run, "flow_heun")
        x = run.x
        for now, then in run.steps:
            h = then.t - now.t
            base = x
            d = run.denoise(base, now)
            v = d.eps - d.x0
            x = base + h * v
            if then.sigma > 0.0:
                e = run.denoise(x, then)
                x = base + (0.5 * h) * (v + (e.eps - e.x0))
        return x


@dataclasses.dataclass(frozen=True)
class FlowEulerAncestral(BaseSampler):
    r"""Euler's step down to d <= s; then scaled to the signal at s, with noise for the rest.

    .. math::
        d = s \left( 1 + \eta \left( \frac{s}{t} - 1 \right) \right), \quad
        x_s = \frac{1 - s}{1 - d}\, (x_t + (d - t)\, v) + u\, z, \quad
        u^2 = s^2 - d^2 \left( \frac{1 - s}{1 - d} \right)^2

    Attributes:
        eta: 0 is Euler's method; ``euler_ancestral`` has another d for the same eta.
        scale: Factor on the noise (diffusers' ``s_noise``).
    """

    eta: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        check_number(self.eta, "eta", 0.0, 1.0)
        check_number(self.scale, "scale", 0.0, finite=True)

    def __call__(self, run: Run) -> Vector:
        check_flow(run, "flow_euler_ancestral")
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            eta = 0.0 if run.ends_at(then) else self.eta
            down = then.t * (1.0 + (then.t / now.t - 1.0) * eta)
            kept = then.alpha / (1.0 - down) * down
            x = then.alpha * d.x0 + kept * d.eps
            if (up := math.sqrt(max(then.t**2 - kept**2, 0.0)) * self.scale) > 0.0:
                x = x + up * run.noise()
        return x
