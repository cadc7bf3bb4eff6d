"""Grids that are written in noise levels (``Schedule.level``).

The level is k-diffusion's sigma, sigma / alpha, for VP and VE, and t for flow. Where a level falls
between two training indices, the state is at exactly that level, and the network is fed the exact
inverse of the schedule's own interpolation, or, if it takes whole indices only, the nearest.

Where alpha is 0 at the last index (zero terminal SNR) the level is infinite there: the first call
is at that index, and the formula's largest level is that of the index before.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Self

import numpy as np

from revstep.engine.checks import check_number, check_one_of
from revstep.engine.spec.grids.base import Float64, Grid, index_times
from revstep.engine.spec.grids.beta_quantile import beta_quantile
from revstep.engine.spec.grids.index_grids import IndexGrid
from revstep.engine.spec.parts import TimeInput
from revstep.engine.spec.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class NoiseGrid(Grid):
    """Levels from ``sigma_max`` down to ``sigma_min``, both taken.

    Attributes:
        sigma_min: The last call's level; None is that of training index 0.
        sigma_max: The first call's level; None is that of training index T - 1.
        ends: A grid of training indices whose first and last call give the levels that are None
            instead, as diffusers' Euler, Heun, LMS and KDPM2 have it; they move with the number of
            steps.
    """

    sigma_min: float | None = None
    sigma_max: float | None = None
    ends: IndexGrid | None = dataclasses.field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.ends, IndexGrid | None):
            raise TypeError(
                "a grid's ends are those of a grid of training indices, such as LeadingGrid(); "
                f"got {self.ends!r}"
            )
        for name in ("sigma_min", "sigma_max"):
            if (value := getattr(self, name)) is not None:
                check_number(value, name, 0.0, above=True, finite=True)

    def levels(self, high: float, low: float, steps: int) -> Float64:
        """``steps`` levels from ``high`` down to ``low``."""
        raise NotImplementedError

    def natural_times(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """Natural times of the levels."""
        low, high = self._range(schedule, time, steps)
        low = low if self.sigma_min is None else float(self.sigma_min)
        high = high if self.sigma_max is None else float(self.sigma_max)
        if low >= high:
            raise ValueError(
                f"grid {self.kind!r} needs sigma_min < sigma_max; got {low:g} and {high:g}"
            )
        found = schedule.from_level(np.clip(self.levels(high, low, steps), low, high))
        return self._with_ends(schedule, np.array(found))

    def with_offset(self, offset: int) -> Self:
        """With the offset at its ``ends``."""
        if self.ends is None:
            return self
        return dataclasses.replace(self, ends=self.ends.with_offset(offset))

    def _range(self, schedule: Schedule, time: TimeInput, steps: int) -> tuple[float, float]:
        """(min, max) level where no other is given."""
        if self.ends is None:
            return schedule.level_range
        last, first = schedule.level(self.ends.natural_times(schedule, time, steps)[[-1, 0]])
        low, high = schedule.level_range
        return max(low, float(last)), min(high, float(first))

    def _with_ends(self, schedule: Schedule, found: Float64) -> Float64:
        """The training's own ends exactly, without the rounding of the inverse."""
        if self.ends is not None:
            return found
        if self.sigma_min is None and len(found) > 1:
            found[-1] = schedule.from_index(0)
        if self.sigma_max is None:
            found[0] = schedule.from_index(schedule.steps - 1)
        return found


@dataclasses.dataclass(frozen=True)
class KarrasGrid(NoiseGrid):
    """Levels linear in level^(1/rho) (Karras et al. 2022, eq. 5).

    Attributes:
        rho: How much the grid favours low noise.
    """

    kind = "karras"
    rho: float = 7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number(self.rho, "rho", 0.0, above=True, finite=True)

    def levels(self, high: float, low: float, steps: int) -> Float64:
        """(high^(1/rho) + k/(N-1) (low^(1/rho) - high^(1/rho)))^rho."""
        root = 1.0 / self.rho
        return np.asarray(np.linspace(high**root, low**root, steps) ** self.rho)


@dataclasses.dataclass(frozen=True)
class ExponentialGrid(NoiseGrid):
    """Levels linear in their logarithm."""

    kind = "exponential"

    def levels(self, high: float, low: float, steps: int) -> Float64:
        """exp(linspace(log high, log low, N))."""
        return np.asarray(np.exp(np.linspace(math.log(high), math.log(low), steps)))


@dataclasses.dataclass(frozen=True)
class LuGrid(ExponentialGrid):
    """``exponential``, as diffusers' ``use_lu_lambdas`` names it: even steps in lambda.

    It differs in a run with compat only: that scheduler rounds the times of these levels, where it
    cuts those of its exponential ones.
    """

    kind = "lu"


@dataclasses.dataclass(frozen=True)
class BetaGrid(NoiseGrid):
    """Quantiles of the beta distribution: dense at both ends (Lee et al. 2024, Beta sampling).

    Attributes:
        alpha: First shape parameter.
        beta: Second shape parameter.
        over: What the quantiles divide: ``sigma``, the level (diffusers' ``use_beta_sigmas``), or
            ``index``, the training index (the paper, ComfyUI).
    """

    kind = "beta"
    alpha: float = 0.6
    beta: float = 0.6
    over: str = "sigma"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("alpha", "beta"):
            check_number(getattr(self, name), name, 0.1, 100.0)
        check_one_of(self.over, "over", ("sigma", "index"))
        if self.over == "index" and (self.sigma_min, self.sigma_max) != (None, None):
            raise ValueError("sigma_min and sigma_max go with over='sigma'")

    def natural_times(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """Natural times of the levels, or of quantile (T - 1) with ``over="index"``."""
        if self.over == "sigma":
            return super().natural_times(schedule, time, steps)
        indices = self.levels(1.0, 0.0, steps) * (schedule.steps - 1)
        return index_times(schedule, time, indices, "grid 'beta'")

    def levels(self, high: float, low: float, steps: int) -> Float64:
        """Low + (high - low) times the quantile of 1 - k/(N-1)."""
        shares = np.linspace(1.0, 0.0, steps)
        return low + beta_quantile(shares, self.alpha, self.beta) * (high - low)


@dataclasses.dataclass(frozen=True)
class LogSNRGrid(Grid):
    """Equal steps in lambda = log(alpha / sigma) from index T - 1 to 0, which is not called.

    DPM-Solver's ``logSNR`` (Lu et al. 2022): with the spec's ``final="first"`` the last step, as
    long as the others, arrives at index 0. It is ``exponential`` with the end dropped.
    """

    kind = "logsnr_uniform"

    def natural_times(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """Natural times of the first N of linspace(lambda_{T-1}, lambda_0, N + 1)."""
        del time
        top = float(schedule.steps - 1)
        alpha, sigma = schedule.alpha_sigma(schedule.from_index([0.0, top - 1.0, top]))
        with np.errstate(divide="ignore"):
            lam = np.log(alpha) - np.log(sigma)
        noisiest = lam[2] if np.isfinite(lam[2]) else lam[1]
        found = np.array(schedule.from_lambda(np.linspace(noisiest, lam[0], steps + 1)[:steps]))
        found[0] = schedule.from_index(top)
        return found
