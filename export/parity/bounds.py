"""The largest errors that the parity check allows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from revstep.engine.nearest import unknown_names
from revstep.engine.spec.precisions import FORWARD_BOUNDS

__all__ = ["BOUNDS", "Bounds", "recorded", "resolve_bounds", "wider"]


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """Largest allowed errors, relative to the reference's RMS.

    Attributes:
        forward: Of one forward pass, in the largest absolute error (``forward_error``).
        ddim20: Of the final state of a DDIM-20 run, in the RMS error.
    """

    forward: float
    ddim20: float

    def __post_init__(self) -> None:
        for name in ("forward", "ddim20"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and 0.0 < value < math.inf):
                raise ValueError(f"the parity bound {name!r} must be positive; got {value!r}")


RUN_BOUNDS = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 1e-1}
BOUNDS = {name: Bounds(FORWARD_BOUNDS[name], run) for name, run in RUN_BOUNDS.items()}


def resolve_bounds(
    precision: str,
    bounds: Bounds | Mapping[str, float] | None,
    manifest: Mapping[str, Any] | None = None,
) -> Bounds:
    """The precision's bounds, with those that ``bounds`` names (forward, ddim20) changed.

    A bundle's manifest has wider ones for a module that was given in 16 bits.

    Raises:
        ValueError: An unknown name, or a bound that is not positive.
    """
    default = BOUNDS[precision] if manifest is None else recorded(manifest, precision)
    if bounds is None:
        return default
    if isinstance(bounds, Bounds):
        return bounds
    if others := set(bounds) - {"forward", "ddim20"}:
        raise ValueError(unknown_names("unknown parity bound", others, ("forward", "ddim20")))
    return dataclasses.replace(default, **bounds)


def recorded(manifest: Mapping[str, Any], name: str) -> Bounds:
    """The bounds of a precision, or of ``decoder``, in a manifest; the defaults where it has none.

    A module that was given in 16 bits has wider ones there.
    """
    try:
        found = manifest["parity"]["bounds"][name]
        return Bounds(found["forward"], found["ddim20"])
    except (KeyError, TypeError, ValueError):
        return BOUNDS.get(name, BOUNDS["fp32"])


def wider(one: Bounds, other: Bounds) -> Bounds:
    """Of each bound, the larger: 16 bits on either side limit the agreement."""
    return Bounds(max(one.forward, other.forward), max(one.ddim20, other.ddim20))
