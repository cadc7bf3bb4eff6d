"""The parts of a spec: the time input, the conditions, the latent decoder."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.arrays import typed_values
from revstep.engine.checks import (
    check_bool,
    check_identifier,
    check_number,
    check_one_of,
    check_sequence,
    check_shape,
    check_whole,
)
from revstep.engine.errors import ArgumentError
from revstep.engine.spec.fields import SHAPE, fields_from
from revstep.engine.spec.frozen_array import FrozenArray

LEVEL_KINDS = ("sigma", "log_sigma", "log_snr", "angle")
TIME_KINDS = ("index", "unit", "thousand", *LEVEL_KINDS)
INTEGERS = ("int32", "int64")
CONDITION_DTYPES = {  # what the module takes -> what revstep's interface and the graph hold
    "bool": "bool", "int32": "int32", "int64": "int64",
    "float32": "float32", "float16": "float32", "bfloat16": "float32",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TimeInput:
    """The network's time input: float32 (B,) at revstep's interface, whatever is inside.

    What each kind feeds the network, where the state is alpha x0 + sigma eps:

    =============  ========================  ===================  =========================
    kind           VP                        VE                   flow
    =============  ========================  ===================  =========================
    ``index``      i, 0 to T - 1             i                    i = T t - 1
    ``unit``       i / (T - 1)               i / (T - 1)          t
    ``thousand``   1000 i / (T - 1)          1000 i / (T - 1)     1000 t
    ``sigma``      sigma / alpha             sigma                t
    ``log_sigma``  log(sigma / alpha) / 4    log(sigma) / 4       log(t) / 4
    ``log_snr``    log(alpha² / sigma²)      -2 log(sigma)        refused
    ``angle``      atan(sigma / alpha)       atan(sigma)          atan(t / (1 - t))
    =============  ========================  ===================  =========================

    A ``ContinuousVPSchedule`` has flow's first three rows and VP's last four; so has a
    ``TrigFlowSchedule``, with 2 t / pi for flow's t, and t itself as its ``angle``.

    ``sigma`` is the noise level that grids are written in (``Schedule.level``): the sigma of
    k-diffusion, EDM and diffusers' Euler, not VP's sqrt(1 - abar). ``log_sigma`` is EDM's c_noise,
    that of Stable Video Diffusion too. Where alpha = 0 at the last training index (zero terminal
    SNR; flow as ``log_snr``) there is no finite number to feed: such a spec is refused.

    Attributes:
        name: The input's name.
        kind: A row of the table.
        fractions: Whether the first three may be fed times between training indices; the others
            always may.
    """

    name: str = "timestep"
    kind: str = "index"
    fractions: bool = False

    def __post_init__(self) -> None:
        check_identifier(self.name, "the time input's name")
        check_bool(self.fractions, "the time input's fractions")
        check_one_of(self.kind, "time kind", TIME_KINDS)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One conditioning input of the network.

    Attributes:
        name: The input's name.
        shape: Shape of one sample's value, without the batch; () for a class label, (1,) for one
            that the module takes as (B, 1).
        dtype: What the module takes: ``bool``, ``int32``, ``int64``, ``float32``, ``float16`` or
            ``bfloat16``. The last two are float32 at revstep's interface, and rounded there.
        null: The value that means "no condition", or None where the network has none;
            classifier-free guidance needs one. A number, for all of the shape, or a whole array,
            such as the embedding of a null prompt.
        classes: For class labels: valid values are 0 .. classes - 1.
        limits: For other integers: (min, max) valid value. Export finds it where the module
            looks the values up in a table.
        example: Values that are sound for the module, of the shape or (rows, *shape), for export
            to try it with: lengths, identifiers from 1, a mask whose logarithm is taken. A bundle
            doesn't keep them.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    null: ArrayLike | None = None
    classes: int | None = None
    limits: tuple[int, int] | None = None
    example: ArrayLike | None = dataclasses.field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_identifier(self.name, "a condition's name")
        allowed = "a tuple of positive whole numbers, () for one number per sample"
        shape = check_sequence(self.shape, f"condition {self.name!r}'s shape", allowed)
        object.__setattr__(self, "shape", shape)
        check_shape(self.shape, f"condition {self.name!r}'s shape", empty=True)
        if self.dtype not in CONDITION_DTYPES:
            raise ValueError(
                f"condition {self.name!r} has dtype {self.dtype!r}; "
                f"allowed: {', '.join(CONDITION_DTYPES)}"
            )
        self._check_range()
        object.__setattr__(self, "null", self._checked_null())
        object.__setattr__(self, "example", self._checked_example())

    @property
    def interface(self) -> str:
        """The numpy dtype of the values at revstep's interface, and of the graph's input."""
        return CONDITION_DTYPES[self.dtype]

    @property
    def allowed(self) -> tuple[int, int] | None:
        """(min, max) valid whole number, or None where any is."""
        return self.limits if self.classes is None else (0, self.classes - 1)

    @property
    def filler(self) -> NDArray[Any]:
        """A valid value of the shape, for rows that nobody reads: the null value where it is."""
        value: ArrayLike = 0
        if self.null is not None:
            value = self.null
        elif self.example is not None:
            value = np.asarray(self.example)[0]
        elif self.allowed is not None:
            value = min(max(0, self.allowed[0]), self.allowed[1])
        return np.broadcast_to(np.asarray(value, self.interface), self.shape)

    def values(self, value: ArrayLike, what: str) -> NDArray[Any]:
        """A caller's values, in the interface's dtype.

        Raises:
            TypeError: Values of another kind than the dtype's.
            ValueError: NaN, infinity, or a value out of range.
        """
        array = typed_values(value, self.dtype, what)
        if self.allowed is not None:
            low, high = self.allowed
            if np.any(bad := (array < low) | (array > high)):
                text = f"{what} holds {array[bad].flat[0]}; allowed: {low} to {high}"
                raise ArgumentError(text, what)
        return array

    def to_dict(self) -> dict[str, Any]:
        """The condition as plain JSON values, without the example."""
        null = self.null.to_json() if isinstance(self.null, FrozenArray) else self.null
        limits = {} if self.limits is None else {"limits": list(self.limits)}
        fields = {"name": self.name, "shape": self.shape, "dtype": self.dtype}
        return {**fields, "null": null, "classes": self.classes, **limits}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Condition:
        """The condition that ``to_dict`` wrote."""
        fields = fields_from(cls, values, "a condition")
        if isinstance(fields.get("null"), dict):
            fields["null"] = FrozenArray.from_json(fields["null"], "a condition's null value")
        return cls(**fields)

    def _check_range(self) -> None:
        what = f"condition {self.name!r}"
        if self.classes is not None:
            check_whole(self.classes, f"{what}'s classes")
            if self.dtype not in INTEGERS:
                raise ValueError(f"{what} has classes, so its dtype is int64 or int32")
            if self.classes < 1:
                raise ValueError(f"{what}: classes={self.classes} must be at least 1")
        if self.limits is not None:
            ends = check_sequence(self.limits, f"{what}'s limits", "(min, max), as (0, 99)")
            for value in ends:
                check_whole(value, f"{what}'s limits")
            if len(ends) != 2 or ends[0] > ends[1]:
                raise ValueError(f"{what}'s limits must be (min, max); got {ends}")
            if self.dtype not in INTEGERS or self.classes is not None:
                raise ValueError(
                    f"{what} has limits, so its dtype is int64 or int32, and it has no classes"
                )
            object.__setattr__(self, "limits", ends)

    def _checked_null(self) -> ArrayLike | None:
        if self.null is None:
            return None
        what = f"condition {self.name!r}'s null value"
        if isinstance(self.null, int | float | str):
            return self._null_number(self.null, what)
        array = self.values(self.null, what)
        if array.shape == ():
            return cast(ArrayLike, array.item())
        if array.shape != self.shape:
            raise ValueError(f"{what} has shape {array.shape}; give a number, or {self.shape}")
        return FrozenArray(array)

    def _null_number(self, value: Any, what: str) -> float | int | bool:
        if not isinstance(value, bool) or self.dtype != "bool":
            check_number(value, what)
        if not math.isfinite(value):
            raise ValueError(f"condition {self.name!r} has a non-finite null value {value}")
        if isinstance(value, float) and value.is_integer() and self.interface != "float32":
            value = int(value)
        array = self.values(value, what)
        return bool(array) if self.dtype == "bool" else cast(float, value)

    def _checked_example(self) -> FrozenArray | None:
        if self.example is None:
            return None
        what = f"condition {self.name!r}'s example"
        array = self.values(self.example, what)
        if array.shape == self.shape:
            array = array[None]
        if array.shape[1:] != self.shape or not len(array) or array.ndim == 0:
            raise ValueError(
                f"{what} has shape {array.shape}; give {self.shape}, or (rows, *{self.shape})"
            )
        return FrozenArray(array)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A latent decoder: images = decoder(x0 / scale + shift).

    Attributes:
        shape: Shape of one decoded sample.
        scale: The latent scale that training multiplied latents by.
        shift: Added after the division.
        value_range: (lo, hi) of the decoded samples, for images.
        tile: (rows, columns) of latents that one call decodes, where that is less than all: tiles
            overlap, and are blended. None: all at once.
        overlap: The part of a tile that the next one has too, from 0 to 1/2.
    """

    shape: tuple[int, ...]
    scale: float = 1.0
    shift: float = 0.0
    value_range: tuple[float, float] = (-1.0, 1.0)
    tile: tuple[int, int] | None = None
    overlap: float = 0.25

    def __post_init__(self) -> None:
        shape = check_sequence(self.shape, "the decoder's shape", SHAPE)
        object.__setattr__(self, "shape", shape)
        check_shape(self.shape, "the decoder's shape", empty=False)
        for name in ("scale", "shift"):
            check_number(getattr(self, name), f"the decoder's {name}")
        if not (math.isfinite(self.scale) and self.scale != 0.0 and math.isfinite(self.shift)):
            raise ValueError(f"latent scale {self.scale} and shift {self.shift} must be finite")
        ends = check_sequence(self.value_range, "the decoder's value_range", "(lo, hi)")
        for value in ends:
            check_number(value, "the decoder's value_range")
        if len(ends) != 2 or not -math.inf < ends[0] < ends[1] < math.inf:
            raise ValueError(f"the decoder's value_range must be (lo, hi) with lo < hi; got {ends}")
        object.__setattr__(self, "value_range", tuple(float(v) for v in ends))
        self._check_tile()

    def _check_tile(self) -> None:
        check_number(self.overlap, "the decoder's overlap", 0.0, 0.5)
        if self.tile is not None:
            tile = check_sequence(self.tile, "the decoder's tile", "(rows, columns) of latents")
            check_shape(tile, "the decoder's tile", empty=False)
            if len(tile) != 2 or len(self.shape) != 3:
                raise ValueError(
                    f"the decoder's tile is (rows, columns) of pictures (C, H, W); got {tile} for "
                    f"{self.shape}"
                )
            object.__setattr__(self, "tile", tile)

    def to_dict(self) -> dict[str, Any]:
        """The decoder as plain JSON values; without tiles as earlier versions write it."""
        values = dataclasses.asdict(self)
        return (
            values
            if self.tile is not None
            else {k: v for k, v in values.items() if k not in ("tile", "overlap")}
        )
