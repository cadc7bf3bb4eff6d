"""The parts of a spec: the time input, the conditions, the latent decoder."""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.nearest import unknown
from revstep.engine.spec_checks import (
    SHAPE,
    as_tuple,
    check_bool,
    check_name,
    check_number,
    check_shape,
    check_whole,
)

__all__ = ["LEVEL_KINDS", "TIME_KINDS", "Condition", "Decoder", "TimeInput"]

LEVEL_KINDS = ("sigma", "log_sigma", "log_snr")
TIME_KINDS = ("index", "unit", "thousand", *LEVEL_KINDS)
CONDITION_DTYPES = ("float32", "int64")


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
    =============  ========================  ===================  =========================

    ``sigma`` is the noise level that grids are written in (``Schedule.level``): the sigma of
    k-diffusion, EDM and diffusers' Euler, not VP's sqrt(1 - abar). ``log_sigma`` is EDM's c_noise,
    that of Stable Video Diffusion too. Where alpha = 0 at the last training index (zero terminal
    SNR; flow as ``log_snr``) there is no finite number to tell: such a spec is refused.

    Attributes:
        name: The input's name.
        kind: A row of the table.
        fractions: Whether the first three may be told times between training indices; the last
            three always may.
    """

    name: str = "timestep"
    kind: str = "index"
    fractions: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "the time input's name")
        check_bool(self.fractions, "the time input's fractions")
        if self.kind not in TIME_KINDS:
            raise ValueError(unknown("time kind", self.kind, TIME_KINDS))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One conditioning input of the network.

    Attributes:
        name: The input's name.
        shape: Shape of one sample's value, without the batch; () for a class label.
        dtype: ``float32`` or ``int64``.
        null: The value that means "no condition" (a number, broadcast to the shape), or None
            where the network has none; classifier-free guidance needs one.
        classes: For class labels: valid values are 0 .. classes - 1.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    null: float | int | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "a condition's name")
        allowed = "a tuple of positive whole numbers, () for one number a sample"
        shape = as_tuple(self.shape, f"condition {self.name!r}'s shape", allowed)
        object.__setattr__(self, "shape", shape)
        check_shape(self.shape, f"condition {self.name!r}'s shape", empty=True)
        if self.dtype not in CONDITION_DTYPES:
            raise ValueError(
                f"condition {self.name!r} has dtype {self.dtype!r}; "
                f"allowed: {', '.join(CONDITION_DTYPES)}"
            )
        if self.null is not None:
            check_number(self.null, f"condition {self.name!r}'s null value")
        if self.classes is not None:
            check_whole(self.classes, f"condition {self.name!r}'s classes")
        if self.null is not None and not math.isfinite(self.null):
            raise ValueError(f"condition {self.name!r} has a non-finite null value {self.null}")
        if self.classes is not None:
            if self.dtype != "int64":
                raise ValueError(f"condition {self.name!r} has classes, so its dtype is int64")
            if self.classes < 1 or (self.null is not None and not 0 <= self.null < self.classes):
                raise ValueError(
                    f"condition {self.name!r}: classes={self.classes} must be at least 1 and the "
                    f"null value {self.null} must lie in 0 .. classes - 1"
                )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """A latent decoder: images = decoder(x0 / scale + shift).

    Attributes:
        shape: Shape of one decoded sample.
        scale: The latent scale that training multiplied latents by.
        shift: Added after the division.
        value_range: (lo, hi) of the decoded samples, for images.
    """

    shape: tuple[int, ...]
    scale: float = 1.0
    shift: float = 0.0
    value_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        shape = as_tuple(self.shape, "the decoder's shape", SHAPE)
        object.__setattr__(self, "shape", shape)
        check_shape(self.shape, "the decoder's shape", empty=False)
        for name in ("scale", "shift"):
            check_number(getattr(self, name), f"the decoder's {name}")
        if not (math.isfinite(self.scale) and self.scale != 0.0 and math.isfinite(self.shift)):
            raise ValueError(f"latent scale {self.scale} and shift {self.shift} must be finite")
        ends = as_tuple(self.value_range, "the decoder's value_range", "(lo, hi)")
        for value in ends:
            check_number(value, "the decoder's value_range")
        if len(ends) != 2 or not -math.inf < ends[0] < ends[1] < math.inf:
            raise ValueError(f"the decoder's value_range must be (lo, hi) with lo < hi; got {ends}")
        object.__setattr__(self, "value_range", tuple(float(v) for v in ends))
