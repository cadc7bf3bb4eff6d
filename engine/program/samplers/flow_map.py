r"""Flow maps: networks of two times, which jump along the flow from t to s at once.

.. math:: x_s = \Phi(x_t, t, s)

MeanFlow, shortcut models, consistency-trajectory models and distilled flow maps are such; the
spec's prediction says what the network gives of :math:`\Phi` (docs/two-times.md).

References:
    Geng et al., "Mean flows for one-step generative modeling", 2025, arXiv:2505.13447.

    Frans et al., "One step diffusion via shortcut models", 2025, arXiv:2410.12557.

    Kim et al., "Consistency trajectory models", 2024, arXiv:2310.02279.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math

from revstep.engine.checks import check_number
from revstep.engine.program.points import Point, fed_point
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector
from revstep.engine.spec.denoiser import DenoiserSpec


@dataclasses.dataclass(frozen=True)
class FlowMap(BaseSampler):
    r"""Jumps over the grid; with gamma each goes too far, and noise takes the state back.

    .. math::
        x_s = \frac{\alpha_s}{\alpha_u} \Phi(x_t, t, u) + \mathrm{std}\, z, \quad
        \frac{\sigma_u}{\alpha_u} = \sqrt{1 - \gamma^2}\, \frac{\sigma_s}{\alpha_s}, \quad
        \mathrm{std}^2 = \sigma_s^2 - \frac{\alpha_s^2}{\alpha_u^2} \sigma_u^2

    CTM's gamma-sampling (Kim et al. 2024, algorithm 3), for any alpha and sigma: std is
    :math:`\gamma \sigma_s`. The last jump adds no noise.

    Attributes:
        gamma: 0 is deterministic; at 1 every jump goes to the data, and all noise is new, as in
            multistep consistency sampling.
    """

    gamma: float = 0.0

    def __post_init__(self) -> None:
        check_number(self.gamma, "gamma", 0.0, 1.0)

    def __call__(self, run: Run) -> Vector:
        x = run.x
        for now, then in run.steps:
            if self.gamma == 0.0 or then.sigma == 0.0 or run.ends_at(then):
                x = run.jump(x, now, then)
                continue
            below = self._below(run.spec, then)
            ratio = then.alpha / below.alpha
            std = math.sqrt(max(then.sigma**2 - (ratio * below.sigma) ** 2, 0.0))
            x = ratio * run.jump(x, now, below) + std * run.noise()
        return x

    def _below(self, spec: DenoiserSpec, then: Point) -> Point:
        """Where a jump goes before noise takes it to ``then``: the clean end, if no time is there.

        So at gamma = 1, and below the least noise of a table's training.
        """
        kept = math.sqrt(1.0 - self.gamma**2) * then.sigma
        t = spec.schedule.clean
        if kept > 0.0:
            with contextlib.suppress(ValueError):  # less noise than the training saw
                t = float(spec.schedule.from_lambda(math.log(then.alpha / kept)))
        return fed_point(spec, t)
