r"""Flow matching: methods on the velocity, with alpha = 1 - t and sigma = t.

.. math:: v = \frac{dx}{dt} = \epsilon - x_0

References:
    Lipman et al., "Flow matching for generative modeling", 2023, arXiv:2210.02747.

    Liu, Gong & Liu, "Flow straight and fast", 2023, arXiv:2209.03003. The time of both papers runs
    the other way.
"""

from __future__ import annotations

import dataclasses

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
