"""Points of the process: one time, its noise level, and what the network is fed there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.parts import LEVEL_KINDS
from revstep.engine.spec.schedule.base import UnitTimeSchedule

Float64 = NDArray[np.float64]

WHOLE = 1e-6  # an index this close to a whole one is it: inverses round


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One time of the process.

    Attributes:
        t: Natural time of the schedule.
        time: What the network is fed.
        alpha: Signal scale.
        sigma: Noise scale.
        index: Training index; -1 at the clean end.
        level: Noise level that grids are written in: sigma / alpha, or t for flow.
    """

    t: float
    time: float
    alpha: float
    sigma: float
    index: float = math.nan
    level: float = math.nan

    @property
    def lam(self) -> float:
        """log(alpha / sigma), half the log signal-to-noise ratio; infinite at the ends."""
        if self.sigma == 0.0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0.0 else -math.inf


def point(spec: DenoiserSpec, t: float) -> Point:
    """The point at natural time ``t``; at the clean end the network's time is that of index 0.

    A network that takes whole training indices is fed the nearest one to ``t``, as diffusers'
    multistep solvers and k-diffusion do; alpha and sigma are those of ``t`` itself, so no step of
    the solver changes its length.
    """
    return points_at(spec, t)[0]


def points_at(spec: DenoiserSpec, times: ArrayLike) -> list[Point]:
    """The points at natural times (k,), as ``point`` has each; at once, as runs may be long."""
    schedule = spec.schedule
    t = np.asarray(times, dtype=np.float64)
    fed = _network_times(spec, np.where(t == schedule.clean, schedule.from_index(0), t))
    alpha, sigma = schedule.alpha_sigma(t)
    columns = (_numbers(v) for v in (alpha, sigma, schedule.index(t), schedule.level(t)))
    return [Point(*values) for values in zip(_numbers(t), fed, *columns, strict=True)]


def _numbers(values: Float64) -> list[float]:
    """Of an array, or of the one number that numpy makes of an array without axes."""
    numbers: list[float] = np.ravel(values).tolist()
    return numbers


def lambda_point(spec: DenoiserSpec, lam: float) -> Point:
    """The point where log(alpha / sigma) is ``lam``: where two-stage solvers call midway."""
    return point(spec, float(spec.schedule.from_lambda(lam)))


def training_end(spec: DenoiserSpec, t: float) -> tuple[float, float]:
    """(alpha, sigma) at the end of the training step from ``t``: ``mean``'s regression target.

    ``spec.training_step`` training indices nearer to the data, or the clean end before them.
    """
    schedule = spec.schedule
    index = max(float(schedule.index(t)) - spec.training_step, -1.0)
    alpha, sigma = schedule.alpha_sigma(schedule.from_index(index))
    return float(alpha), float(sigma)


def _network_times(spec: DenoiserSpec, times: Float64) -> list[float]:
    """What the network is fed at natural times, none of them the clean end."""
    schedule, kind = spec.schedule, spec.time.kind
    if kind == "angle":
        return _numbers(schedule.angle(times))
    if kind == "log_snr":
        ends = zip(*map(_numbers, schedule.alpha_sigma(times)), strict=True)
        return [2.0 * math.log(a / s) if a > 0.0 else -math.inf for a, s in ends]
    if kind in LEVEL_KINDS:
        levels = _numbers(schedule.level(times))
        return levels if kind == "sigma" else [math.log(level) / 4.0 for level in levels]
    if isinstance(schedule, UnitTimeSchedule) and kind != "index":
        return [t if kind == "unit" else 1000.0 * t for t in _numbers(schedule.unit(times))]
    indices = [network_index(spec, index) for index in _numbers(schedule.index(times))]
    if kind == "index":
        return indices
    units = [index / (schedule.steps - 1) for index in indices]
    return units if kind == "unit" else [1000.0 * unit for unit in units]


def network_index(spec: DenoiserSpec, index: float) -> float:
    """The index that the network is fed: the nearest whole one, unless it takes fractions.

    Raises:
        ValueError: ``mean`` between whole indices, where the network's target is another.
    """
    nearest = float(round(index))
    if abs(index - nearest) <= WHOLE:
        return nearest
    if spec.time.fractions or (spec.schedule.kind == "ve" and spec.time.kind != "index"):
        return index
    if spec.prediction == "mean":
        raise ValueError(
            f"this grid needs the training index {index:g}, and a network that predicts 'mean' for "
            "whole indices can't be fed the nearest: its target is another there. Use a grid "
            "in training indices (trailing, leading, linspace), or the spec's time.fractions=True"
        )
    return nearest
