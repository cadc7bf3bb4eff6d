r"""DPM-Solver++ with one network call per step, and its SDE forms.

Over a step of :math:`h = \lambda_s - \lambda_t`, with :math:`H = (1 + \eta) h`,

.. math::
    x_s = \frac{\sigma_s}{\sigma_t} e^{-\eta h} x_t
          + \alpha_s (\varphi_1 D_0 + \varphi_2 D_1 + \varphi_3 D_2)
          + \sigma_s \sqrt{1 - e^{-2 \eta h}}\, z \\
    \varphi_1 = 1 - e^{-H}, \quad \varphi_2 = 1 - \varphi_1 / H, \quad
    \varphi_3 = 1/2 - \varphi_2 / H

where D_0 is x_0, and D_1, D_2 its first and second difference over h. eta = 0 is the ODE, eta = 1
the SDE. (diffusers' third-order SDE has -1/2 for 1/2 in phi_3; k-diffusion's agrees with this.)

The published D_2 of three calls is Newton's divided difference, h² x_0'' / 2 and not h² x_0'', so
the published 3M is of order 2, as convergence shows; ``third="taylor"`` doubles the term: order 3.

References:
    Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models",
    2022, arXiv:2211.01095. Its s and t are t and s here.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

from revstep.engine.checks import check_bool, check_number, check_one_of
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import Point
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector

FEW_STEPS = 15  # below this the last steps are of lower order, as the authors' code does
SECOND = ("midpoint", "heun")
THIRD = ("published", "taylor")


@dataclasses.dataclass(frozen=True)
class _DPMSolverPP(BaseSampler):
    """The step and the options of all of them.

    Attributes:
        lower_order_final: Whether a run of fewer than 15 steps ends with lower orders.
        eta: 0 is the ODE, 1 the SDE.
        second: Second-order steps: ``midpoint`` takes D_1 phi_1 / 2, ``heun`` D_1 phi_2.
        third: Third-order steps: ``published`` takes D_2 phi_3 as the authors' code, diffusers and
            k-diffusion do, which leaves them of order 2; ``taylor`` takes 2 D_2 phi_3: order 3.
    """

    stepping = diffusers_stepping.MULTISTEP
    order: ClassVar[int]
    lower_order_final: bool = True
    eta: float = 0.0
    second: str = "midpoint"
    third: str = "published"

    def __post_init__(self) -> None:
        check_number(self.eta, "eta", 0.0, 1.0)
        check_bool(self.lower_order_final, "lower_order_final")
        check_one_of(self.second, "second", SECOND)
        check_one_of(self.third, "third", THIRD)

    def _step(self, run: Run, x: Vector, now: Point, then: Point, *d: Vector) -> Vector:
        """One step from ``x`` at ``now``, with as many differences D_0, D_1, D_2 as are given."""
        h = then.lam - now.lam
        eta = 0.0 if run.ends_at(then) else self.eta
        decay = math.exp(-eta * h) if eta > 0.0 else 1.0
        phi_1 = -math.expm1(-(1.0 + eta) * h)
        out = (then.sigma / now.sigma * decay) * x + (then.alpha * phi_1) * d[0]
        if len(d) == 2 and self.second == "midpoint":
            out = out + (0.5 * then.alpha * phi_1) * d[1]
        elif len(d) > 1:
            phi_2 = 1.0 - phi_1 / ((1.0 + eta) * h)
            out = out + (then.alpha * phi_2) * d[1]
            if len(d) > 2:
                phi_3 = 0.5 - phi_2 / ((1.0 + eta) * h)
                out = out + (then.alpha * phi_3 * (2.0 if self.third == "taylor" else 1.0)) * d[2]
        if decay < 1.0 and then.sigma > 0.0:
            out = out + (then.sigma * math.sqrt(1.0 - decay**2)) * run.noise()
        return out


@dataclasses.dataclass(frozen=True)
class _Multistep(_DPMSolverPP):
    """Differences from the x0 of earlier steps.

    The first steps, a step to sigma = 0, steps from alpha = 0, and (``lower_order_final``) the
    last ones of fewer than 15, are of lower order.

    Attributes:
        euler_at_final: Whether the last step is of first order in a run of any length.
    """

    euler_at_final: bool = dataclasses.field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bool(self.euler_at_final, "euler_at_final")

    def __call__(self, run: Run) -> Vector:
        x = run.x
        past: list[tuple[float, Vector]] = []  # (lambda, x0) of the last calls, newest first
        for number, (now, then) in enumerate(run.steps):
            d = run.denoise(x, now)
            order = min(self.order, 1 + len(past))
            if self.lower_order_final and len(run.steps) < FEW_STEPS:
                order = min(order, len(run.steps) - number)
            if self.euler_at_final and number == len(run.steps) - 1:
                order = 1
            h = then.lam - now.lam
            if not math.isfinite(h) or h == 0.0:
                order = 1
            x = self._step(run, x, now, then, *differences(now.lam, h, d.x0, past[: order - 1]))
            past = [(now.lam, d.x0), *past][: self.order - 1] if math.isfinite(now.lam) else []
        return x


def differences(lam: float, h: float, x0: Vector, past: list[tuple[float, Vector]]) -> list[Vector]:
    r"""D_0, D_1, D_2 of x_0 over h, as many as there are values: Newton's, at lambda.

    .. math::
        r_0 = \frac{\lambda - \lambda_1}{h}, \quad r_1 = \frac{\lambda_1 - \lambda_2}{h}, \quad
        D_2 = \frac{1}{r_0 + r_1} \left( \frac{x_0 - x_{0,1}}{r_0}
              - \frac{x_{0,1} - x_{0,2}}{r_1} \right), \quad
        D_1 = \frac{x_0 - x_{0,1}}{r_0} + r_0 D_2
    """
    if not past:
        return [x0]
    (lam_1, x0_1), *older = past
    r_0 = (lam - lam_1) / h
    first = (x0 - x0_1) / r_0
    if not older:
        return [x0, first]
    lam_2, x0_2 = older[0]
    r_1 = (lam_1 - lam_2) / h
    before = (x0_1 - x0_2) / r_1
    second = (first - before) / (r_0 + r_1)
    return [x0, first + r_0 * second, second]


@dataclasses.dataclass(frozen=True)
class DPMSolverPP1S(_Multistep):
    """DPM-Solver++ of first order: DDIM, and with ``eta=1`` DDPM of the small variance."""

    order = 1


@dataclasses.dataclass(frozen=True)
class DPMSolverPP1SSDE(DPMSolverPP1S):
    """SDE-DPM-Solver++ of first order."""

    eta: float = 1.0


@dataclasses.dataclass(frozen=True)
class DPMSolverPP2M(_Multistep):
    """DPM-Solver++(2M), algorithm 2."""

    order = 2


@dataclasses.dataclass(frozen=True)
class DPMSolverPP2MSDE(DPMSolverPP2M):
    """SDE-DPM-Solver++(2M)."""

    eta: float = 1.0


@dataclasses.dataclass(frozen=True)
class CogVideoXDPM(DPMSolverPP2MSDE):
    """CogVideoX's SDE-DPM-Solver++(2M).

    With compat a step goes T // N indices down, as in DDIM, not to the grid's next time.
    """

    stepping = diffusers_stepping.COGVIDEOX_DPM
    lower_order_final: bool = False


@dataclasses.dataclass(frozen=True)
class DPMSolverPP3M(_Multistep):
    """DPM-Solver++(3M)."""

    order = 3


@dataclasses.dataclass(frozen=True)
class DPMSolverPP3MSDE(DPMSolverPP3M):
    """SDE-DPM-Solver++(3M)."""

    eta: float = 1.0


@dataclasses.dataclass(frozen=True)
class DPMSolverPP2S(_DPMSolverPP):
    """DPM-Solver++(2S), algorithm 1, with the stage at every other grid point.

    Steps come in pairs: a first-order one to the next point, and one over both intervals from the
    state before the pair, with the x0 of both calls. A last step that has no partner, or goes to
    sigma = 0, is of first order.
    """

    stepping = diffusers_stepping.SINGLESTEP
    order = 2

    def __call__(self, run: Run) -> Vector:
        x, count = run.x, len(run.steps)
        base: tuple[Point, Vector, Vector] | None = None  # point, state and x0 before the pair
        for number, (now, then) in enumerate(run.steps):
            d = run.denoise(x, now)
            last = number == count - 1
            first_order = last and (
                then.sigma == 0.0 or (self.lower_order_final and count % 2 == 0)
            )
            if base is None or first_order:
                base = (now, x, d.x0) if math.isfinite(now.lam) else None
                x = self._step(run, x, now, then, d.x0)
            else:
                start, x_start, x0_start = base
                r = (now.lam - start.lam) / (then.lam - start.lam)
                x = self._step(run, x_start, start, then, x0_start, (d.x0 - x0_start) / r)
                base = None
        return x


@dataclasses.dataclass(frozen=True)
class DPMSolverPP2SSDE(DPMSolverPP2S):
    """SDE-DPM-Solver++(2S): the noise of the stage and of the pair's end are independent."""

    eta: float = 1.0
