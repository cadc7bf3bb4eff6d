"""Time grids: at which times the network is called, and where each step arrives.

References: Lin et al. 2023, table 2 (the spacings).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from revstep.engine.spec import SPACINGS, DenoiserSpec

__all__ = ["Point", "time_grid"]


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    """One time of the process.

    Attributes:
        t: Natural time of the schedule.
        time: What the network is fed.
        alpha: Signal scale.
        sigma: Noise scale.
    """

    t: float
    time: float
    alpha: float
    sigma: float

    @property
    def lam(self) -> float:
        """log(alpha / sigma), half the log signal-to-noise ratio; infinite at the ends."""
        if self.sigma == 0.0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0.0 else -math.inf


def point(spec: DenoiserSpec, t: float) -> Point:
    """The point at natural time ``t``; at the clean end the network's time is that of index 0."""
    alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(t))
    at = t if t != spec.schedule.clean else float(spec.schedule.from_index(0))
    return Point(float(t), _network_time(spec, at), alpha, sigma)


def time_grid(
    spec: DenoiserSpec, steps: int, spacing: str | None = None, compat: str | None = None
) -> tuple[tuple[Point, Point], ...]:
    """``steps`` pairs (point of the network call, point that the step arrives at).

    A step arrives at the grid's own next time, the last at the clean end (or, with the spec's
    ``final="first"``, at training index 0).

    Args:
        spec: The denoiser; gives the schedule and the defaults.
        steps: 1 to the schedule's training steps.
        spacing: ``trailing``, ``leading`` or ``linspace``; None is the spec's.
        compat: ``diffusers-ddim`` arrives at index t - T // steps, as diffusers' DDIM does;
            ``diffusers-multistep`` leaves out the last point of the leading and linspace
            spacings, as diffusers' multistep solvers do.

    Raises:
        ValueError: Steps out of range, or an unknown spacing.
    """
    total = spec.schedule.steps
    if isinstance(steps, bool) or not isinstance(steps, (int, np.integer)):
        raise TypeError(f"steps must be a whole number; got {steps!r}")
    if not 1 <= steps <= total:
        raise ValueError(f"steps={steps} is out of range; this schedule allows 1 to {total}")
    indices = _indices(spec, int(steps), spacing or spec.spacing, compat == "diffusers-multistep")
    points = [point(spec, float(spec.schedule.from_index(i))) for i in indices]
    last = point(spec, _final_time(spec))
    if compat == "diffusers-ddim":
        stride = total // steps
        ends = [i - stride for i in indices]
        arrive = [point(spec, float(spec.schedule.from_index(i))) if i >= 0 else last for i in ends]
    else:
        arrive = [*points[1:], last]
    return tuple(zip(points, arrive, strict=True))


def _indices(spec: DenoiserSpec, steps: int, spacing: str, drop_last: bool) -> list[float]:
    total = spec.schedule.steps
    whole = spec.schedule.kind == "vp" or (spec.time.kind == "index" and not spec.time.fractions)
    if spacing == "trailing":
        found = np.arange(total, 0, -total / steps)[:steps]
        found = (np.round(found) if whole else found) - 1.0  # rounded first, as diffusers does
    elif spacing == "leading":
        count = steps + 1 if drop_last else steps
        found = np.arange(count)[::-1] * float(total // count) + spec.spacing_offset
    elif spacing == "linspace":
        found = np.linspace(0, total - 1, steps + 1 if drop_last else steps)[::-1]
    else:
        raise ValueError(f"unknown spacing {spacing!r}; allowed: {', '.join(SPACINGS)}")
    found = found[:steps]
    if whole:
        found = np.round(found)
    if np.any(found < 0) or np.any(found > total - 1):
        raise ValueError(
            f"spacing {spacing!r} with offset {spec.spacing_offset} leaves the training indices "
            f"0 .. {total - 1}"
        )
    if np.any(np.diff(found) >= 0):
        raise ValueError(f"spacing {spacing!r} with {steps} steps visits a time twice; use fewer")
    return [float(i) for i in found]


def _final_time(spec: DenoiserSpec) -> float:
    return spec.schedule.clean if spec.final == "clean" else float(spec.schedule.from_index(0))


def _network_time(spec: DenoiserSpec, t: float) -> float:
    schedule, kind = spec.schedule, spec.time.kind
    if kind == "index":
        i = float(schedule.index(t))
        if not spec.time.fractions and abs(i - round(i)) > 1e-6:
            raise ValueError(
                f"the network takes whole training indices; this grid needs {i:g} (the spec's "
                "time.fractions=True allows it)"
            )
        return i
    if kind in ("unit", "thousand"):
        unit = t if schedule.kind == "flow" else float(schedule.index(t)) / (schedule.steps - 1)
        return unit if kind == "unit" else 1000.0 * unit
    _, sigma = schedule.alpha_sigma(t)
    if kind == "sigma":
        return float(sigma)
    return math.log(float(sigma)) / 4.0 if sigma > 0.0 else -math.inf
