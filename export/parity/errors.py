"""How far an output is from PyTorch's, and whether that is within a bound.

Errors are relative to the RMS of the reference: the largest absolute error of one forward pass, the
RMS error of a final state.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import ParityError

__all__ = ["finding", "forward_error", "relative_error", "root_mean_square", "within"]


def forward_error(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Largest absolute error, relative to the RMS of its own time or of all, whichever is larger.

    A score or an EDM output may be 100 times larger at one time than at the others: its rounding is
    in proportion to itself. Where the output is small it is a difference of values of ordinary
    size, whose rounding it carries: there the RMS over all times counts.

    Args:
        got: (rows, ...): one time a row.
        want: The reference, of the same shape.

    Returns:
        The error, never more than ``relative_error``; infinite where ``got`` is not finite.
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
            f"parity: {what} gave NaN or infinity where PyTorch gives numbers; the bundle is "
            "unchanged. In fp16 this is an overflow: use fp32 or bf16"
        )
    if error > bound:
        raise ParityError(
            f"parity: {what} differs from PyTorch by {error:.3g} of the reference's RMS, the bound "
            f"is {bound:g}; the bundle is unchanged. Export it again or, if the difference is "
            "acceptable, give larger bounds"
        )
    return {"error": error, "bound": bound}


def finding(error: ParityError) -> str:
    """What differs by how much, without what to do with a bundle that there is."""
    return str(error).split("; the bundle is")[0].removeprefix("parity: ")
