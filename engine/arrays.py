"""A caller's values (numbers, lists, numpy, torch) as checked numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.errors import ArgumentError, ArgumentTypeError

PICTURE_CHANNELS = (1, 3, 4)
HALVES = {"float16": 65504.0, "bfloat16": float.fromhex("0x1.fep127")}  # their largest numbers


def array_from(value: Any, what: str) -> NDArray[Any]:
    """Any array; ``what`` names it in errors.

    Raises:
        TypeError: No array.
    """
    if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU, with a gradient, or bf16
        value = value.detach().cpu()
        value = value.float() if value.is_floating_point() else value
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"{what} can't be read as an array: {error}", what) from error
    if array.dtype.kind == "V" and array.dtype.name == "bfloat16":  # JAX's, say; names are slow
        return array.astype(np.float32)
    return array


def floats(value: ArrayLike, what: str) -> NDArray[np.float32]:
    """Finite float32 numbers.

    Raises:
        TypeError: No numbers.
        ValueError: NaN, infinity, or beyond float32.
    """
    array = array_from(value, what)
    if array.dtype.kind not in "fiu":
        raise ArgumentTypeError(f"{what} must be numbers; got {array.dtype}", what)
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        if not np.isfinite(array).all():
            raise ArgumentError(f"{what} holds NaN or infinity; it must be finite", what)
        raise ArgumentError(f"{what} holds a value beyond float32", what)
    return single


def data_values(
    value: ArrayLike, what: str, value_range: tuple[float, float] | None
) -> NDArray[np.float32]:
    """``floats``, of data in the network's own range; a picture's bytes are none.

    Raises:
        TypeError: Bytes (uint8), or no numbers.
        ValueError: As in ``floats``, or pictures that hold bytes as floats.
    """
    if array_from(value, what).dtype == np.uint8:
        low, high = value_range or (-1.0, 1.0)
        raise ArgumentTypeError(
            f"{what} is uint8, a picture's 0 to 255; give what the network was trained on, such "
            f"as {_of_bytes(low, high)}"
            + ("" if value_range is None else f" for its range {low:g} to {high:g}"),
            what,
        )
    array = floats(value, what)
    pictures = array.ndim >= 3 and array.shape[-3] in PICTURE_CHANNELS
    if pictures and value_range is not None and (text := bytes_as_floats(array, value_range)):
        raise ArgumentError(f"{what} {text}", what)
    return array


def bytes_as_floats(pictures: NDArray[np.float32], value_range: tuple[float, float]) -> str | None:
    """What is wrong with pictures whose floats are bytes' 0 to 255, if they are such.

    Nothing is said of values a little beyond the range, nor of those on both sides of it: only of
    what goes beyond its upper end by more than its width, and has no value below 0 or is there in
    the mean too.
    """
    low, high = value_range
    width = high - low
    if not pictures.size or (top := float(pictures.max())) <= high + width:
        return None
    bottom = float(pictures.min())
    if bottom < min(low, 0.0) and float(pictures.mean()) <= high + width:
        return None
    return (
        f"holds values of {bottom:g} to {top:g}; a picture's floats lie in {low:g} to {high:g} "
        f"here: give {_of_bytes(low, high)} of bytes' 0 to 255"
    )


def _of_bytes(low: float, high: float) -> str:
    """How a picture's bytes become floats."""
    return f"x / 255 * {high - low:g} + {low:g}"


def integers(value: ArrayLike, what: str, dtype: str = "int64") -> NDArray[Any]:
    """Whole numbers, int64 or int32.

    Raises:
        TypeError: No integers.
        ValueError: A value beyond the dtype.
    """
    array = array_from(value, what)
    if array.dtype.kind not in "iu":
        raise ArgumentTypeError(f"{what} must be integers; got {array.dtype}", what)
    ends, bits = np.iinfo(dtype), np.iinfo(dtype).bits
    if array.size and int(array.max()) > ends.max:
        text = f"{what} holds {array.max()}; an integer is at most 2^{bits - 1} - 1 = {ends.max}"
        raise ArgumentError(text, what)
    if array.size and int(array.min()) < ends.min:
        text = f"{what} holds {array.min()}; an integer is at least -2^{bits - 1} = {ends.min}"
        raise ArgumentError(text, what)
    return array.astype(dtype)


def booleans(value: ArrayLike, what: str) -> NDArray[np.bool_]:
    """True and False, also written as the integers 1 and 0.

    Raises:
        TypeError: Neither bools nor integers.
        ValueError: Another integer.
    """
    array = array_from(value, what)
    if array.dtype.kind not in "biu":
        raise ArgumentTypeError(
            f"{what} must be bools, or the integers 0 and 1; got {array.dtype}", what
        )
    if array.dtype.kind != "b" and np.any(other := (array != 0) & (array != 1)):
        raise ArgumentError(
            f"{what} holds {array[other].flat[0]}; a bool is True, False, 0 or 1", what
        )
    return array.astype(np.bool_)


def typed_values(value: ArrayLike, dtype: str, what: str) -> NDArray[Any]:
    """Values of a condition's dtype: bool, int32, int64, or float32 for the floats.

    numpy has no bfloat16, so float16 and bfloat16 are float32 here; whoever calls the network
    rounds them.

    Raises:
        TypeError: Values of another kind.
        ValueError: NaN, infinity, or a value beyond the dtype.
    """
    if dtype == "bool":
        return booleans(value, what)
    if dtype in ("int32", "int64"):
        return integers(value, what, dtype)
    array = floats(value, what)
    if dtype in HALVES and np.any(over := np.abs(array) > HALVES[dtype]):
        raise ArgumentError(
            f"{what} holds {array[over].flat[0]:g}; a {dtype} is at most {HALVES[dtype]:g}",
            what,
        )
    return array


def rows_of(array: NDArray[Any], shape: tuple[int, ...], n: int, what: str) -> NDArray[Any]:
    """(n, *shape), contiguous, from that or from one value for all.

    Raises:
        ValueError: Another shape.
    """
    if array.shape == (n, *shape):
        return np.ascontiguousarray(array)
    if array.shape != shape:
        raise _wrong_shape(array, shape, n, what)
    rows = np.empty((n, *shape), array.dtype)  # a third of the time of broadcast_to, and a copy
    rows[:] = array
    return rows


def rows_view(array: NDArray[Any], shape: tuple[int, ...], n: int, what: str) -> NDArray[Any]:
    """As ``rows_of``, but one value for all takes the memory of one."""
    if array.shape != shape and array.shape != (n, *shape):
        raise _wrong_shape(array, shape, n, what)
    return np.broadcast_to(array, (n, *shape))


def _wrong_shape(array: NDArray[Any], shape: tuple[int, ...], n: int, what: str) -> ArgumentError:
    return ArgumentError(
        f"{what} has shape {array.shape}; allowed: {(n, *shape)}, or {shape} for all samples", what
    )
