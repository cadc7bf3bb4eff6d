"""A caller's values (numbers, lists, numpy, torch) as checked numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["array_from", "data_values", "floats", "integers", "rows_of", "rows_view"]


def array_from(value: Any, what: str) -> NDArray[Any]:
    """Any array; ``what`` names it in errors.

    Raises:
        TypeError: No array.
    """
    if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU, with a gradient, or bf16
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} can't be read as an array: {error}") from error


def floats(value: ArrayLike, what: str) -> NDArray[np.float32]:
    """Finite float32 numbers.

    Raises:
        TypeError: No numbers.
        ValueError: NaN, infinity, or beyond float32.
    """
    array = array_from(value, what)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{what} must be numbers; got {array.dtype}")
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{what} holds NaN or infinity; it must be finite")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.all(np.isfinite(single)):
        raise ValueError(f"{what} holds a value beyond float32")
    return single


def data_values(
    value: ArrayLike, what: str, value_range: tuple[float, float] | None
) -> NDArray[np.float32]:
    """``floats``, of data in the network's own range; a picture's bytes are none.

    Raises:
        TypeError: Bytes (uint8), or no numbers.
        ValueError: As in ``floats``.
    """
    if array_from(value, what).dtype == np.uint8:
        low, high = value_range or (-1.0, 1.0)
        raise TypeError(
            f"{what} is uint8, a picture's 0 to 255; give what the network was trained on, such "
            f"as x / 255 * {high - low:g} + {low:g}"
            + ("" if value_range is None else f" for its range {low:g} to {high:g}")
        )
    return floats(value, what)


def integers(value: ArrayLike, what: str) -> NDArray[np.int64]:
    """Whole numbers, int64.

    Raises:
        TypeError: No integers.
        ValueError: A value beyond int64.
    """
    array = array_from(value, what)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{what} must be integers; got {array.dtype}")
    most = np.iinfo(np.int64).max
    if array.dtype == np.uint64 and np.any(array > most):
        raise ValueError(f"{what} holds {array.max()}; an integer is at most 2^63 - 1 = {most}")
    return array.astype(np.int64)


def rows_of(array: NDArray[Any], shape: tuple[int, ...], n: int, what: str) -> NDArray[Any]:
    """(n, *shape), contiguous, from that or from one value for all.

    Raises:
        ValueError: Another shape.
    """
    return np.ascontiguousarray(rows_view(array, shape, n, what))


def rows_view(array: NDArray[Any], shape: tuple[int, ...], n: int, what: str) -> NDArray[Any]:
    """As ``rows_of``, but one value for all takes the memory of one."""
    if array.shape != shape and array.shape != (n, *shape):
        raise ValueError(
            f"{what} has shape {array.shape}; allowed: {(n, *shape)}, or {shape} for all samples"
        )
    return np.broadcast_to(array, (n, *shape))
