"""Guidance over time: the row's w of the effective guidance 1 + w (g - 1).

w = 1 is the guidance g that the request asks for, w = 0 is none (g_eff = 1). A weight is any
hashable function of a ``Point``, so that a program can be kept for the next request::

    def falling(at: Point) -> float:
        return min(1.0, at.level / 5.0)
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable

from revstep.engine.checks import check_number, check_one_of, wrong_type
from revstep.engine.program.points import Point

GuidanceWeight = Callable[[Point], float]

UNITS = ("sigma", "index")


@dataclasses.dataclass(frozen=True, slots=True)
class GuidanceInterval:
    """Guidance in an interval (lo, hi] of noise levels only, none outside of it.

    Kynkäänniemi et al. 2024, "Applying guidance in a limited interval", eq. 6: sigma_lo < sigma <=
    sigma_hi, where sigma is sigma / alpha (EDM's).

    Attributes:
        lo: The open end; None is no limit.
        hi: The closed end; None is no limit.
        unit: ``sigma``: noise levels as grids have them, sigma / alpha, or t for flow; ``index``:
            training indices.
        inside: w in the interval.
        outside: w out of it.
    """

    lo: float | None = None
    hi: float | None = None
    unit: str = "sigma"
    inside: float = 1.0
    outside: float = 0.0

    def __post_init__(self) -> None:
        check_one_of(self.unit, "unit", UNITS)
        for name in ("lo", "hi", "inside", "outside"):
            value = getattr(self, name)
            if value is None and name in ("lo", "hi"):
                continue
            check_number(value, name, finite=True)
        if self.lo is not None and self.hi is not None and self.lo >= self.hi:
            raise ValueError(f"a guidance interval needs lo < hi; got {self.lo:g} and {self.hi:g}")

    def __call__(self, at: Point) -> float:
        """W at this point."""
        value = at.level if self.unit == "sigma" else at.index
        above = self.lo is None or value > self.lo
        return self.inside if above and (self.hi is None or value <= self.hi) else self.outside


def check_guidance_weight(weight: object) -> None:
    """Refuses what is no weight.

    Raises:
        TypeError: Not a hashable function of a point, nor None.
    """
    if weight is None or (callable(weight) and not isinstance(weight, type)):
        if isinstance(weight, Hashable):
            return
        raise wrong_type(
            weight, "guidance_weight", "hashable, as a function or a frozen dataclass is"
        )
    raise wrong_type(
        weight,
        "guidance_weight",
        "a function of a Point, such as GuidanceInterval(lo=0.3, hi=5), or None",
    )


def guidance_weight(weight: GuidanceWeight | None, at: Point) -> float:
    """W at a point; 1 without a weight.

    Raises:
        TypeError: The weight gave no number.
        ValueError: The weight gave a number that is not finite.
    """
    if weight is None:
        return 1.0
    value: object = weight(at)
    if isinstance(value, bool):
        value = float(value)
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(
            f"the guidance weight gave {value!r} at time {at.t:g}; it gives one number"
        ) from None
    if not math.isfinite(found):
        raise ValueError(f"the guidance weight gave {found} at time {at.t:g}; it must be finite")
    return found
