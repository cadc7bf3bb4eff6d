r"""SA-Solver: Adams' methods on the x0 of an SDE with noise of any strength.

Over a step of :math:`h = \lambda_s - \lambda_t`, with :math:`c = 1 + \tau^2`,

.. math::
    x_s = \frac{\sigma_s}{\sigma_t} e^{-\tau^2 h} x_t
          + \alpha_s \int_{\lambda_t}^{\lambda_s} c\, e^{-c (\lambda_s - \lambda)}
            x_0(\lambda)\, d\lambda
          + \sigma_s \sqrt{1 - e^{-2 \tau^2 h}}\, z

with the polynomial through known x0 for x_0(lambda): those of the last calls in the predictor
(Bashforth), and that at the predicted state as well in the corrector (Moulton). tau = 0 is the
ODE, tau = 1 the reverse SDE.

References:
    Xue et al., "SA-Solver: stochastic Adams solver for fast sampling of diffusion models", 2023,
    arXiv:2309.05019, algorithm 1; its published code.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from revstep.engine.checks import check_bool, check_number, check_one_of, check_whole
from revstep.engine.errors import ProgramError
from revstep.engine.program import diffusers_stepping
from revstep.engine.program.points import Point
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.samplers.deis import lagrange_weights
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector

Past = list[tuple[float, Vector]]
"""(lambda, x0) of the last calls, newest first."""

SECOND = ("published", "exact")


@dataclasses.dataclass(frozen=True)
class SASolver(BaseSampler):
    r"""SA-Solver for x_0; one network call per step.

    The network is called at the predicted state; its output first corrects that state, with the
    same noise, then predicts the next from the corrected one. The first steps, a step to
    sigma = 0, and steps from alpha = 0 are of lower order.

    Attributes:
        predictor: Order of the predictor, 1 to 3: the x0 of so many calls.
        corrector: Order of the corrector, 1 to 4; 0 is none.
        tau: Strength of the noise, between ``low`` and ``high``; elsewhere it is 0.
        low: The least training index with noise.
        high: The largest training index with noise.
        second: Of order 2, ``published`` weighs the slope of x_0 by c h² / 2, its leading term, as
            the authors' code and diffusers do; ``exact`` by the integral.
        lower_order_final: Whether the last steps are of lower order, down to 1.
    """

    stepping = diffusers_stepping.DEIS
    predictor: int = 2
    corrector: int = 2
    tau: float = 1.0
    low: float = 200.0
    high: float = 800.0
    second: str = "published"
    lower_order_final: bool = True

    def __post_init__(self) -> None:
        for name, most in (("predictor", 3), ("corrector", 4)):
            order = check_whole(getattr(self, name), name, 0 if name == "corrector" else 1)
            if order > most:
                raise ProgramError(
                    f"{name}={order} is refused: it needs the x0 of four earlier calls, and a row "
                    f"reads three stored values. Take {name}={most} or less"
                )
        check_number(self.tau, "tau", 0.0, finite=True)
        for name in ("low", "high"):
            check_number(getattr(self, name), name)
        check_one_of(self.second, "second", SECOND)
        check_bool(self.lower_order_final, "lower_order_final")

    def __call__(self, run: Run) -> Vector:
        x, past = run.x, Past()
        predicted: Vector | None = None  # what the last predictor made of its x0s
        order = 0  # of the corrector of the last step
        for number, (now, then) in enumerate(run.steps):
            d = run.denoise(x, now)
            if predicted is not None:
                before = run.steps[number - 1][0]
                new = [(now.lam, d.x0), *past][:order]
                x = x - predicted + self._drift(run, before, now, new)
            past = [(now.lam, d.x0), *past][:3] if math.isfinite(now.lam) else []
            left = len(run.steps) - number if self.lower_order_final else math.inf
            order = int(min(self.corrector, len(past) + 1, left + 1))
            finite = math.isfinite(then.lam - now.lam)
            known = past[: int(min(self.predictor, left))] if finite else [(now.lam, d.x0)]
            drift = self._drift(run, now, then, known)
            predicted = drift if finite and self.corrector else None
            x = self._moved(run, x, now, then) + drift
        return x

    def _tau(self, run: Run, now: Point, then: Point) -> float:
        index = round(now.index, 6)  # a whole one may come as 199.9999999
        noisy = self.low <= index <= self.high and not run.ends_at(then)
        return self.tau if noisy else 0.0

    def _moved(self, run: Run, x: Vector, now: Point, then: Point) -> Vector:
        """The state's and the noise's part of a step."""
        tau, h = self._tau(run, now, then), then.lam - now.lam
        if tau == 0.0:
            return (then.sigma / now.sigma) * x
        out = (then.sigma / now.sigma * math.exp(-(tau**2) * h)) * x
        std = then.sigma * math.sqrt(-math.expm1(-2.0 * tau**2 * h))
        return out + std * run.noise() if std > 0.0 else out

    def _drift(self, run: Run, now: Point, then: Point, values: Past) -> Vector:
        """The x0s' part of a step, by the polynomial through them."""
        c = 1.0 + self._tau(run, now, then) ** 2
        h = then.lam - now.lam
        (lam, x0), *others = values
        if not others:
            return (then.alpha * -math.expm1(-c * h)) * x0
        if len(others) == 1 and self.second == "published":
            (older, old), end = others[0], -math.expm1(-c * h)
            rise = 0.5 * c * h**2 / (lam - older)  # of the line, from its value at now
            first = rise if lam == then.lam else end + rise
            return (then.alpha * first) * x0 + (then.alpha * (end - first)) * old
        weights = lagrange_weights(
            [lam for lam, _ in values],
            now.lam,
            then.lam,
            lambda at: np.asarray(c * np.exp(-c * (then.lam - at))),
        )
        parts = [(then.alpha * w) * x0 for w, (_, x0) in zip(weights, values, strict=True)]
        return sum(parts[1:], parts[0])
