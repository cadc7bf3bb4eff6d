"""UniPC: a predictor and a corrector of one order, one network call per step.

References:
    Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion
    models", 2023, arXiv:2302.04867.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_bool, check_one_of, check_sequence, check_whole
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import Point
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector

Past = list[tuple[float, Vector]]
"""(lambda, x0) of the last calls, newest first."""


@dataclasses.dataclass(frozen=True)
class UniPC(BaseSampler):
    r"""UniPC-p for x_0 (algorithms 5 to 8).

    The network is called at the predicted state; its output first corrects that state, then
    predicts the next from the corrected one.

    .. math::
        x_s = \frac{\sigma_s}{\sigma_t} x_t - \alpha_s (e^{-h} - 1)\, x_{0,t}
              - \alpha_s B(h) \sum_i \rho_i D_i, \\
        h = \lambda_s - \lambda_t, \quad r_i = (\lambda_i - \lambda_t) / h, \quad
        D_i = (x_{0,i} - x_{0,t}) / r_i

    Attributes:
        order: p, 1 to 3.
        b: B(h): ``bh1`` is -h, ``bh2`` is e^{-h} - 1.
        corrector: Whether states are corrected; without it this is the predictor alone.
        lower_order_final: Whether the last steps are of lower order, down to 1.
        disable_corrector: Steps, from 0, whose end is not corrected.
    """

    stepping = diffusers_stepping.UNIPC
    order: int = 2
    b: str = "bh2"
    corrector: bool = True
    lower_order_final: bool = True
    disable_corrector: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_whole(self.order, "order", 1, 3)
        check_one_of(self.b, "b", ("bh1", "bh2"))
        steps = check_sequence(
            self.disable_corrector, "disable_corrector", "a tuple of step numbers"
        )
        object.__setattr__(self, "disable_corrector", steps)
        for step in steps:
            check_whole(step, "disable_corrector", 0)
        for name in ("corrector", "lower_order_final"):
            check_bool(getattr(self, name), name)

    def __call__(self, run: Run) -> Vector:
        x, corrected, order = run.x, run.x, 0
        past: Past = []
        for number, (now, then) in enumerate(run.steps):
            d = run.denoise(x, now)
            if self.corrector and past and number - 1 not in self.disable_corrector:
                before = run.steps[number - 1][0]
                new = (now.lam, d.x0)
                corrected = self._move(corrected, before, now, [*past[:order], new], order)
            else:
                corrected = x
            past = [(now.lam, d.x0), *past][:3] if math.isfinite(now.lam) else []
            order = min(self.order, max(len(past), 1))
            if self.lower_order_final:
                order = min(order, len(run.steps) - number)
            h = then.lam - now.lam
            if not math.isfinite(h) or h == 0.0:
                order = 1
            known = past[:order] or [(now.lam, d.x0)]
            x = self._move(corrected, now, then, known, order)
        return x

    def _move(self, x: Vector, now: Point, then: Point, values: Past, order: int) -> Vector:
        """Predicts from the values at ``now`` and before it; a last one at ``then`` corrects."""
        h = then.lam - now.lam
        (lam, x0), *others = values
        out = (then.sigma / now.sigma) * x - (then.alpha * math.expm1(-h)) * x0
        if not others:
            return out
        b = -h if self.b == "bh1" else math.expm1(-h)
        r = np.array([(other - lam) / h for other, _ in others])
        for weight, ratio, (_, value) in zip(self._weights(r, h, b), r, others, strict=True):
            out = out - (then.alpha * b * float(weight / ratio)) * (value - x0)
        return out

    @staticmethod
    def _weights(r: NDArray[np.float64], h: float, b: float) -> NDArray[np.float64]:
        r"""Rho of eq. 11.

        .. math:: \sum_i \rho_i r_i^{k-1} = k!\, \varphi_{k+1}(-h) / B(h), \quad k = 1, 2, \ldots
        """
        if len(r) == 1:
            return np.array([0.5])  # the limit, as the authors have it for any h
        right, phi = [], math.expm1(-h) / -h - 1.0
        for k in range(1, len(r) + 1):
            right.append(phi * math.factorial(k) / b)
            phi = phi / -h - 1.0 / math.factorial(k + 1)
        powers = np.vander(r, increasing=True).T
        return np.asarray(np.linalg.solve(powers, np.array(right)))
