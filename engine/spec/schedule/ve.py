"""Variance exploding: alpha = 1, and sigma is the time; EDM's schedule is one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from revstep.engine.checks import check_one_of
from revstep.engine.spec.schedule.base import LEVEL_ROUNDING, Float64, Schedule, check_steps, table

LEVELS = ("geometric", "karras", "table")


@dataclasses.dataclass(frozen=True)
class VESchedule(Schedule):
    """Variance exploding: alpha = 1; natural time is sigma.

    Which sigma a training index stands for matters to networks that are fed the index, to the
    ``mean`` prediction, and to the grids that are written in indices.

    Attributes:
        steps: Training steps T.
        sigma_min: sigma at index 0.
        sigma_max: sigma at index T - 1.
        levels: sigma between them: ``geometric`` (Song et al. 2021), ``karras`` (linear in
            sigma^(1/rho): Karras et al. 2022, eq. 5), or ``table`` with the ``sigmas`` themselves.
        rho: Of the ``karras`` levels.
        sigmas: Of the ``table``: rising, as many as ``steps``; they set sigma_min and sigma_max.
    """

    kind = "ve"
    steps: int = 1000
    sigma_min: float = 0.01
    sigma_max: float = 50.0
    levels: str = "geometric"
    rho: float = 7.0
    sigmas: tuple[float, ...] | None = None
    clean = 0.0

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_one_of(self.levels, "levels", LEVELS)
        if (self.levels == "table") != (self.sigmas is not None):
            raise ValueError("sigmas go with levels='table', and only with it")
        if self.sigmas is not None:
            own = table(self.sigmas, "sigmas", self.steps)
            if any(b <= a for a, b in pairwise(own)):
                raise ValueError("sigmas must rise: index 0 is the least noise; reverse the list")
            for name, value in (("sigmas", own), ("sigma_min", own[0]), ("sigma_max", own[-1])):
                object.__setattr__(self, name, value)
        if not 0.0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                "a VE schedule needs 0 < sigma_min < sigma_max; "
                f"got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}"
            )
        if not (math.isfinite(self.rho) and self.rho > 0.0):
            raise ValueError(f"rho must be positive; got {self.rho}")

    @classmethod
    def edm(
        cls,
        *,
        steps: int = 1000,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
    ) -> VESchedule:
        """EDM's schedule (Karras et al. 2022, table 1); it goes with the ``edm`` prediction."""
        return cls(steps=steps, sigma_min=sigma_min, sigma_max=sigma_max, levels="karras", rho=rho)

    @classmethod
    def from_sigmas(cls, sigmas: Iterable[float]) -> VESchedule:
        """The schedule of your own sigmas, rising: index 0 is the least noise."""
        own = table(sigmas, "sigmas")
        return cls(steps=len(own), levels="table", sigmas=own)

    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(1, t) for any sigma t >= 0."""
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0.0) & np.isfinite(t)):
            raise ValueError("VE time is sigma: finite and not negative")
        return np.ones_like(t), t.copy()

    def from_index(self, index: ArrayLike) -> Float64:
        """The index's sigma; between index 0 and the clean end at -1, linear in sigma."""
        i = np.asarray(index, dtype=np.float64)
        inner = np.clip(i, 0.0, None)
        if self.sigmas is not None:
            found = np.interp(inner, np.arange(float(self.steps)), self.sigmas)
        else:
            low, high = self._bent(np.array([self.sigma_min, self.sigma_max]))
            found = self._unbent(low + inner / (self.steps - 1) * (high - low))
        found = np.where(i == self.steps - 1, self.sigma_max, found)  # without rounding
        return np.where(i <= 0.0, self.sigma_min * np.clip(i + 1.0, 0.0, None), found)

    def index(self, t: ArrayLike) -> Float64:
        """The inverse of ``from_index``."""
        t = np.asarray(t, dtype=np.float64)
        inner = np.clip(t, self.sigma_min, None)
        if self.sigmas is not None:
            found = np.interp(inner, self.sigmas, np.arange(float(self.steps)))
        else:
            low, high = self._bent(np.array([self.sigma_min, self.sigma_max]))
            found = (self.steps - 1) * (self._bent(inner) - low) / (high - low)
        return np.where(t < self.sigma_min, t / self.sigma_min - 1.0, found)

    def from_level(self, level: ArrayLike) -> Float64:
        """The level itself: alpha = 1; from 0 to sigma_max."""
        level = np.asarray(level, dtype=np.float64)
        if not np.all((level >= 0.0) & (level <= self.sigma_max * (1.0 + LEVEL_ROUNDING))):
            raise ValueError(
                f"a noise level lies outside of this schedule's training, 0 to {self.sigma_max:g}: "
                f"got {np.min(level):g} to {np.max(level):g}"
            )
        return level

    def from_lambda(self, lam: ArrayLike) -> Float64:
        """e^-lam, of any lam: a solver's noise may exceed the training's for a moment."""
        return np.asarray(np.exp(-np.asarray(lam, dtype=np.float64)))

    def _bent(self, sigma: Float64) -> Float64:
        """What is linear in the index: log sigma, or sigma^(1 / rho)."""
        return np.asarray(np.log(sigma) if self.levels == "geometric" else sigma ** (1 / self.rho))

    def _unbent(self, value: Float64) -> Float64:
        return np.asarray(np.exp(value) if self.levels == "geometric" else value**self.rho)
