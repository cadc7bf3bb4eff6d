"""Variance preserving in continuous time: alpha² is a function of t, not a table."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from revstep.engine.checks import check_number, check_one_of
from revstep.engine.spec.schedule.base import LEVEL_ROUNDING, Float64, UnitTimeSchedule, check_steps

CURVES = ("linear", "cosine", "sigmoid")


def sigmoid_alphas_cumprod(t: ArrayLike, start: float, end: float, tau: float) -> Float64:
    """(S(end / tau) - S((start + t (end - start)) / tau)) / (S(end / tau) - S(start / tau)).

    S is the logistic function, t in [0, 1] (Chen 2023, algorithm 1; Jabri et al. 2022).
    """
    u = (start + np.asarray(t, dtype=np.float64) * (end - start)) / tau
    low, high, at = (1.0 / (1.0 + np.exp(-np.asarray(v))) for v in (start / tau, end / tau, u))
    return np.asarray((high - at) / (high - low), dtype=np.float64)


@dataclasses.dataclass(frozen=True)
class ContinuousVPSchedule(UnitTimeSchedule):
    """Variance preserving: alpha² + sigma² = 1 with alpha² = abar(t) for every t in [0, 1].

    For networks that were trained at random t: they are fed t itself (``unit``), 1000 t
    (``thousand``), or a noise level, and no table stands between. Index i stands for (i + 1) / T.

    ===========  ===================================================================
    curve        abar(t)
    ===========  ===================================================================
    ``linear``   exp(-(beta_max - beta_min) t² / 2 - beta_min t)
    ``cosine``   cos²((t + s) / (1 + s) pi/2) / cos²(s / (1 + s) pi/2)
    ``sigmoid``  (S(end/tau) - S((start + t (end - start))/tau)) / (S(end/tau) - S(start/tau))
    ===========  ===================================================================

    The last two have alpha = 0 at t = 1 (zero terminal SNR).

    Attributes:
        steps: T, in how many indices grids and ``steps`` count; the function is the same.
        curve: A row of the table.
        beta_min: Of ``linear``: beta(0).
        beta_max: Of ``linear``: beta(1).
        s: Of ``cosine``: the offset.
        start: Of ``sigmoid``.
        end: Of ``sigmoid``.
        tau: Of ``sigmoid``: the temperature.

    References:
        Song et al. 2021, "Score-based generative modeling through stochastic differential
        equations", eq. 33 (linear); Nichol & Dhariwal 2021, eq. 17 (cosine); Chen 2023, "On the
        importance of noise scheduling for diffusion models", algorithm 1 (sigmoid).
    """

    kind = "vp_continuous"
    steps: int = 1000
    curve: str = "linear"
    beta_min: float = 0.1
    beta_max: float = 20.0
    s: float = 0.008
    start: float = -3.0
    end: float = 3.0
    tau: float = 1.0

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_one_of(self.curve, "curve", CURVES)
        names = ("beta_min", "beta_max", "s", "start", "end", "tau")
        for name in names:
            object.__setattr__(self, name, float(check_number(getattr(self, name), name)))
        ordered = 0.0 <= self.beta_min < self.beta_max and self.start < self.end
        finite = all(math.isfinite(getattr(self, name)) for name in names)
        if not (ordered and finite and self.s > 0.0 and self.tau > 0.0):
            raise ValueError(
                "a continuous schedule needs 0 <= beta_min < beta_max, start < end, s > 0 and "
                f"tau > 0, all finite; got {', '.join(f'{n}={getattr(self, n)}' for n in names)}"
            )

    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(sqrt(abar), sqrt(1 - abar)) for t in [0, 1]."""
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0.0) & (t <= 1.0)):
            raise ValueError("a continuous schedule's time lies in [0, 1]")
        if self.curve == "linear":
            decay = 0.5 * (self.beta_max - self.beta_min) * t**2 + self.beta_min * t
            return np.exp(-0.5 * decay), np.sqrt(-np.expm1(-decay))
        if self.curve == "cosine":
            abar = np.where(t < 1.0, (np.cos(self._angle(t)) / math.cos(self._angle(0.0))) ** 2, 0)
        else:
            abar = sigmoid_alphas_cumprod(t, self.start, self.end, self.tau)
        return np.sqrt(abar), np.sqrt(1.0 - abar)

    def _angle(self, t: Float64 | float) -> Float64 | float:
        return (t + self.s) / (1.0 + self.s) * (math.pi / 2.0)

    def from_level(self, level: ArrayLike) -> Float64:
        """The t where sigma / alpha is ``level``; 0 at 0.

        A level above the last one's by at most 0.1 % is the last: published lists are rounded.
        """
        level = np.asarray(level, dtype=np.float64)
        high = float(self.level(1.0))
        if not np.all((level >= 0.0) & (level <= high * (1.0 + LEVEL_ROUNDING))):
            raise ValueError(
                f"a noise level sigma / alpha lies outside of this schedule, 0 to {high:g}: got "
                f"{np.min(level):g} to {np.max(level):g}"
            )
        with np.errstate(over="ignore"):
            decay = np.log1p(np.minimum(level, high) ** 2)  # -log abar
        found = np.clip(self._from_decay(decay), 0.0, 1.0)
        return np.where(level >= high, 1.0, np.where(level == 0.0, 0.0, found))

    def _from_decay(self, decay: Float64) -> Float64:
        """The t where -log abar is ``decay``."""
        if self.curve == "linear":
            slope = self.beta_max - self.beta_min
            root = np.sqrt(self.beta_min**2 + 2.0 * slope * decay)
            return np.asarray(2.0 * decay / (root + self.beta_min + (root == 0.0)))
        if self.curve == "cosine":
            angle = np.arccos(np.exp(-0.5 * decay) * math.cos(self._angle(0.0)))
            return np.asarray(angle * (2.0 / math.pi) * (1.0 + self.s) - self.s)
        low, high = (1.0 / (1.0 + math.exp(-v / self.tau)) for v in (self.start, self.end))
        at = high - np.exp(-decay) * (high - low)
        logit = np.log(at) - np.log1p(-at)
        return np.asarray((self.tau * logit - self.start) / (self.end - self.start))
