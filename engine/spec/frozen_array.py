"""``FrozenArray``: an array inside a frozen description, such as a null prompt's embedding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LISTED = 64  # elements that JSON holds as a list of numbers; more are base64
KINDS = ("float32", "int32", "int64", "bool")
FIELDS = {"dtype", "shape", "base64"}


class FrozenArray:
    """An array that can't change; equal, and of one hash, where dtype, shape and values are.

    ``np.asarray`` gives the array itself, read-only.

    Args:
        array: Copied.
    """

    __slots__ = ("_array",)

    def __init__(self, array: NDArray[Any]) -> None:
        self._array: NDArray[Any] = np.array(array, order="C")
        self._array.setflags(write=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype."""
        return self._array.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        wanted = self._array.dtype if dtype is None else np.dtype(dtype)
        if copy or wanted != self._array.dtype:
            return self._array.astype(wanted)
        return self._array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenArray) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"array of {'x'.join(map(str, self.shape))} {self.dtype}"

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenArray, (np.array(self._array),)

    def __copy__(self) -> FrozenArray:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenArray:
        return self

    def _key(self) -> tuple[str, tuple[int, ...], bytes]:
        return self._array.dtype.name, self.shape, (self._array + 0).tobytes()  # -0.0 is 0.0

    def to_json(self) -> list[Any] | dict[str, Any]:
        """Lists of numbers; beyond 64 elements the little-endian bytes in base64."""
        array = self._array
        if array.size <= LISTED:
            return list(array.tolist())
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        import base64

        text = base64.b64encode(data).decode("ascii")
        return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": text}

    @classmethod
    def from_json(cls, values: dict[str, Any], what: str) -> FrozenArray:
        """The array that ``to_json`` wrote as base64.

        Raises:
            ValueError: Something else.
        """
        if set(values) != FIELDS:
            raise ValueError(f"{what} must have {', '.join(sorted(FIELDS))}; got {sorted(values)}")
        kind, shape, text = values["dtype"], values["shape"], values["base64"]
        if kind not in KINDS:
            raise ValueError(f"{what} is of dtype {kind!r}; allowed: {', '.join(KINDS)}")
        whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
        if not whole or not isinstance(text, str):
            raise ValueError(f"{what} has no readable shape and bytes")
        dtype = np.dtype(kind).newbyteorder("<")
        import base64
        import binascii

        try:
            data = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"{what} is no base64: {error}") from error
        if len(data) != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{what} has {len(data)} bytes, not {kind} of shape {tuple(shape)}")
        return cls(np.frombuffer(data, dtype).astype(kind).reshape(shape))
