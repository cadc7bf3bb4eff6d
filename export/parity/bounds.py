"""How far an output is from PyTorch's, and the largest errors that the parity check allows.

Errors are relative to the RMS of the reference: the largest absolute error of one forward pass, the
RMS error of a final state.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import ParityError
from revstep.engine.nearest import unknown_names
from revstep.engine.spec.precisions import FORWARD_BOUNDS


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


def forward_error(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Largest absolute error, relative to the RMS of its own time or of all, whichever is larger.

    A score or an EDM output may be 100 times larger at one time than at the others: its rounding is
    in proportion to itself. Where the output is small it is a difference of values of ordinary
    size, whose rounding it carries: there the RMS over all times counts.

    Rows are (rows, ...), one time per row. Never more than ``relative_error``; infinite where
    ``got`` is not finite.
    """
    squares = np.mean(want.astype(np.float64).reshape(len(want), -1) ** 2, axis=1)
    overall = float(np.sqrt(squares.mean())) or 1.0
    own = np.maximum(np.sqrt(squares), overall).reshape(-1, *(1 for _ in want.shape[1:]))
    return relative_error(got / own, want / own, scale=1.0)


def relative_error(
    got: NDArray[Any], want: NDArray[Any], *, rms: bool = False, scale: float | None = None
) -> float:
    """Largest absolute (or RMS) error over the RMS of ``want``; infinite where ``got`` is not.

    ``scale`` takes the RMS's place.
    """
    if not np.all(np.isfinite(got)):
        return math.inf
    difference = got.astype(np.float64) - want.astype(np.float64)
    if scale is None:
        scale = root_mean_square(want) or 1.0
    size = np.sqrt(np.mean(difference**2)) if rms else np.max(np.abs(difference))
    return float(size) / scale


def root_mean_square(values: NDArray[Any]) -> float:
    """The root of the mean square, in float64."""
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


def within(what: str, error: float, bound: float) -> dict[str, float]:
    """``{"error": ..., "bound": ...}``.

    Raises:
        ParityError: The error is above the bound, or infinite; it names ``what``.
    """
    if error == math.inf:
        raise ParityError(
            f"parity: {what} gave NaN or infinity where the reference gives numbers; the bundle "
            "is unchanged. In fp16 this is an overflow: use fp32 or bf16"
        )
    if error > bound:
        raise ParityError(
            f"parity: {what} differs from the reference by {error:.3g} of its RMS, the bound "
            f"is {bound:g}; the bundle is unchanged. Export it again or, if the difference is "
            "acceptable, give larger bounds"
        )
    return {"error": error, "bound": bound}


def finding(error: ParityError) -> str:
    """What differs by how much, without what to do with a bundle that there is."""
    return str(error).split("; the bundle is")[0].removeprefix("parity: ")
