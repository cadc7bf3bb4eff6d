"""Points of the process: one time, its noise level, and what the network is fed there."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.parts import LEVEL_KINDS, TimeInput
from revstep.engine.spec.schedule.base import UnitTimeSchedule
from revstep.engine.spec.second_time import SecondTime

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
        second: This time in the unit of the second time input; NaN: there is none.
    """

    t: float
    time: float
    alpha: float
    sigma: float
    index: float = math.nan
    level: float = math.nan
    second: float = math.nan

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
    trained = np.where(t == schedule.clean, schedule.from_index(0), t)
    fed = _network_times(spec, spec.time, trained)
    second = [math.nan] * len(fed)
    if (other := spec.second_time) is not None:
        second = _network_times(spec, other, t if _ends_at_zero(spec, other) else trained)
    alpha, sigma = schedule.alpha_sigma(t)
    columns = (_numbers(v) for v in (alpha, sigma, schedule.index(t), schedule.level(t)))
    return [Point(*values) for values in zip(_numbers(t), fed, *columns, second, strict=True)]


def second_time(spec: DenoiserSpec, now: Point, then: Point) -> float:
    """What a network of two times is fed for a row from ``now`` to ``then``; 0: it takes one."""
    if spec.second_time is None:
        return 0.0
    return then.second if spec.second_time.of == "end" else now.second - then.second


def whole_interval(spec: DenoiserSpec) -> float:
    """The second time of a row from the last training index to the clean end; 0: there is none."""
    schedule = spec.schedule
    return second_time(
        spec, *points_at(spec, [float(schedule.from_index(schedule.steps - 1)), schedule.clean])
    )


def fed_point(spec: DenoiserSpec, t: float) -> Point:
    """The point at ``t``, or at the nearest time that the network can be told to go to."""
    goal, schedule = spec.second_time or spec.time, spec.schedule
    if t == schedule.clean or takes_between(spec, goal):
        return point(spec, t)
    return point(spec, float(schedule.from_index(round(float(schedule.index(t))))))


def takes_between(spec: DenoiserSpec, time: TimeInput | SecondTime) -> bool:
    """Whether an input is fed times between training indices as they are."""
    if time.fractions or time.kind in LEVEL_KINDS:
        return True
    unrounded = spec.schedule.unit_time or spec.schedule.kind == "ve"
    return unrounded and time.kind != "index"


def _ends_at_zero(spec: DenoiserSpec, time: SecondTime) -> bool:
    """Whether the clean end is the number 0 in this unit."""
    if spec.schedule.unit_time and time.kind in ("unit", "thousand"):
        return True
    return time.kind in ("sigma", "angle")


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


def _network_times(spec: DenoiserSpec, time: TimeInput | SecondTime, times: Float64) -> list[float]:
    """What an input is fed at natural times; of the clean end only where its unit has that."""
    schedule, kind = spec.schedule, time.kind
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
    indices = [network_index(spec, index, time) for index in _numbers(schedule.index(times))]
    if kind == "index":
        return indices
    units = [index / (schedule.steps - 1) for index in indices]
    return units if kind == "unit" else [1000.0 * unit for unit in units]


def network_index(
    spec: DenoiserSpec, index: float, time: TimeInput | SecondTime | None = None
) -> float:
    """The index that an input is fed: the nearest whole one, unless it takes fractions.

    Args:
        spec: The denoiser.
        index: The training index.
        time: The input; None: the spec's time.

    Raises:
        ValueError: ``mean`` between whole indices, where the network's target is another.
    """
    nearest = float(round(index))
    if abs(index - nearest) <= WHOLE:
        return nearest
    if takes_between(spec, time or spec.time):
        return index
    if spec.prediction == "mean":
        raise ValueError(
            f"this grid needs the training index {index:g}, and a network that predicts 'mean' for "
            "whole indices can't be fed the nearest: its target is another there. Use a grid "
            "in training indices (trailing, leading, linspace), or the spec's time.fractions=True"
        )
    return nearest
