"""Points of the process: one time, its noise level, and what the network is fed there."""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.parts import LEVEL_KINDS

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
    schedule = spec.schedule
    alpha, sigma = (float(v) for v in schedule.alpha_sigma(t))
    at = t if t != schedule.clean else float(schedule.from_index(0))
    index, level = float(schedule.index(t)), float(schedule.level(t))
    return Point(float(t), _network_time(spec, at), alpha, sigma, index, level)


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


def _network_time(spec: DenoiserSpec, t: float) -> float:
    schedule, kind = spec.schedule, spec.time.kind
    if kind == "log_snr":
        alpha, sigma = (float(v) for v in schedule.alpha_sigma(t))
        return 2.0 * math.log(alpha / sigma) if alpha > 0.0 else -math.inf
    if kind in LEVEL_KINDS:
        level = float(schedule.level(t))
        return level if kind == "sigma" else math.log(level) / 4.0
    if schedule.unit_time and kind != "index":
        return t if kind == "unit" else 1000.0 * t
    index = network_index(spec, float(schedule.index(t)))
    if kind == "index":
        return index
    unit = index / (schedule.steps - 1)
    return unit if kind == "unit" else 1000.0 * unit


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
