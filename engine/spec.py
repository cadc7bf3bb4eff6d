"""``DenoiserSpec``: all that the engine must know of a trained denoiser besides its weights."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from revstep.engine.prediction import PREDICTIONS
from revstep.engine.schedule import Schedule, schedule_from_dict

__all__ = ["Condition", "Decoder", "DenoiserSpec", "TimeInput"]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
TIME_KINDS = ("index", "unit", "thousand", "sigma", "log_sigma")
CONDITION_DTYPES = ("float32", "int64")
SPACINGS = ("trailing", "leading", "linspace")
MAX_BATCH = 65_536
SHAPE = "a tuple of positive whole numbers, without the batch, as (3, 32, 32)"
TUPLES = {
    "shape": SHAPE,
    "conditions": "a tuple of Condition, as (Condition(...),) with a comma",
    "batch": "(least, most) network rows a call, as (1, 64)",
    "value_range": "(lo, hi), as (-1.0, 1.0), or None",
}


def _fields_from(cls: type, values: dict[str, Any], what: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"{what} must be an object; got {type(values).__name__}")
    known = {f.name for f in dataclasses.fields(cls)}
    if unknown := set(values) - known:
        raise ValueError(
            f"unknown field of {what}: {', '.join(sorted(unknown))}; "
            f"allowed: {', '.join(sorted(known))}"
        )
    return dict(values)


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"{what} must be letters, digits and _, not starting with a digit: {name!r}"
        )


def _got(value: object) -> str:
    return (
        f"{type(value).__name__} {value!r}"
        if isinstance(value, str | int | float)
        else (type(value).__name__)
    )


def _as_tuple(value: object, what: str, allowed: str) -> tuple[Any, ...]:
    if not isinstance(value, tuple | list):
        raise TypeError(f"{what} must be {allowed}; got {_got(value)}")
    return tuple(value)


def _check_whole(value: object, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number; got {_got(value)}")


def _check_number(value: object, what: str) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} must be a number; got {_got(value)}")


def _check_bool(value: object, what: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False; got {_got(value)}")


def _check_shape(shape: object, what: str, *, empty: bool) -> None:
    ok = isinstance(shape, tuple) and all(
        isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in shape
    )
    if not ok or (not shape and not empty):
        raise ValueError(f"{what} must be positive whole numbers, without the batch; got {shape!r}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TimeInput:
    """The network's time input: float32 (B,) at revstep's interface, whatever is inside.

    Attributes:
        name: The input's name.
        kind: What the network is fed: ``index`` (training index i), ``unit`` (flow's t, else
            i / (T - 1)), ``thousand`` (1000 x unit), ``sigma``, or ``log_sigma`` (log(sigma) / 4).
        fractions: Whether times between training indices are allowed.
    """

    name: str = "timestep"
    kind: str = "index"
    fractions: bool = False

    def __post_init__(self) -> None:
        _check_name(self.name, "the time input's name")
        _check_bool(self.fractions, "the time input's fractions")
        if self.kind not in TIME_KINDS:
            raise ValueError(f"unknown time kind {self.kind!r}; allowed: {', '.join(TIME_KINDS)}")


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
        _check_name(self.name, "a condition's name")
        allowed = "a tuple of positive whole numbers, () for one number a sample"
        shape = _as_tuple(self.shape, f"condition {self.name!r}'s shape", allowed)
        object.__setattr__(self, "shape", shape)
        _check_shape(self.shape, f"condition {self.name!r}'s shape", empty=True)
        if self.dtype not in CONDITION_DTYPES:
            raise ValueError(
                f"condition {self.name!r} has dtype {self.dtype!r}; "
                f"allowed: {', '.join(CONDITION_DTYPES)}"
            )
        if self.null is not None:
            _check_number(self.null, f"condition {self.name!r}'s null value")
        if self.classes is not None:
            _check_whole(self.classes, f"condition {self.name!r}'s classes")
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
        shape = _as_tuple(self.shape, "the decoder's shape", SHAPE)
        object.__setattr__(self, "shape", shape)
        _check_shape(self.shape, "the decoder's shape", empty=False)
        for name in ("scale", "shift"):
            _check_number(getattr(self, name), f"the decoder's {name}")
        if not (math.isfinite(self.scale) and self.scale != 0.0 and math.isfinite(self.shift)):
            raise ValueError(f"latent scale {self.scale} and shift {self.shift} must be finite")
        ends = _as_tuple(self.value_range, "the decoder's value_range", "(lo, hi)")
        for value in ends:
            _check_number(value, "the decoder's value_range")
        if len(ends) != 2 or not -math.inf < ends[0] < ends[1] < math.inf:
            raise ValueError(f"the decoder's value_range must be (lo, hi) with lo < hi; got {ends}")
        object.__setattr__(self, "value_range", tuple(float(v) for v in ends))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserSpec:
    """A denoiser's inputs, outputs and training objective.

    Attributes:
        shape: Shape of one sample, without the batch: (C, H, W), (horizon, actions), ...
        schedule: The noise schedule it was trained with.
        prediction: What it predicts (``revstep.engine.prediction``).
        name: Name of the state input, float32 (B, *shape).
        time: The time input.
        conditions: Further inputs, in the order in which the module takes them.
        learned_variance: The output has twice the channels: (2 C, ...), mean part first (Nichol &
            Dhariwal 2021).
        training_step: For ``mean``: length of the training step, in natural time.
        sigma_data: For ``edm``.
        value_range: (lo, hi) of the data, for clipping and for conversion to images; None where
            data has no bounds.
        clip: Whether samplers clip the denoised estimate to ``value_range`` by default.
        spacing: Default timestep spacing: ``trailing``, ``leading`` or ``linspace``.
        spacing_offset: Added to the indices of the ``leading`` spacing.
        final: Where sampling ends: ``clean`` (sigma = 0) or ``first`` (training index 0).
        decoder: The latent decoder's description, if the bundle has one.
        batch: (least, most) network rows a call.
    """

    shape: tuple[int, ...]
    schedule: Schedule
    prediction: str
    name: str = "sample"
    time: TimeInput = TimeInput()
    conditions: tuple[Condition, ...] = ()
    learned_variance: bool = False
    training_step: float = 1.0
    sigma_data: float = 0.5
    value_range: tuple[float, float] | None = None
    clip: bool = False
    spacing: str = "trailing"
    spacing_offset: int = 0
    final: str = "clean"
    decoder: Decoder | None = None
    batch: tuple[int, int] = (1, 64)

    def __post_init__(self) -> None:
        self._check_types()
        self._check_inputs()
        self._check_objective()
        self._check_sampling()

    def _check_types(self) -> None:
        """Makes tuples of lists, and refuses values of another type than the field's."""
        for name, allowed in TUPLES.items():
            if (value := getattr(self, name)) is not None or name != "value_range":
                object.__setattr__(self, name, _as_tuple(value, name, allowed))
        for value in self.conditions:
            if not isinstance(value, Condition):
                raise TypeError(f"conditions must be {TUPLES['conditions']}; got {_got(value)}")
        time: object = self.time
        if not isinstance(time, TimeInput):
            hint = f": TimeInput(kind={time!r})?" if time in TIME_KINDS else ""
            raise TypeError(f"time must be a TimeInput; got {_got(time)}{hint}")
        if not isinstance(self.decoder, Decoder | None):
            raise TypeError(f"decoder must be a Decoder or None; got {_got(self.decoder)}")
        for value in self.batch:
            _check_whole(value, "batch")
        for value in self.value_range or ():
            _check_number(value, "value_range")
        if self.value_range is not None:
            object.__setattr__(self, "value_range", tuple(float(v) for v in self.value_range))
        for name in ("training_step", "sigma_data"):
            _check_number(getattr(self, name), name)
        for name in ("learned_variance", "clip"):
            _check_bool(getattr(self, name), name)
        _check_whole(self.spacing_offset, "spacing_offset")

    def _check_inputs(self) -> None:
        _check_shape(self.shape, "the sample shape", empty=False)
        names = [self.name, self.time.name, *(c.name for c in self.conditions)]
        _check_name(self.name, "the state's name")
        if len(set(names)) != len(names):
            raise ValueError(f"input names must differ; got {', '.join(names)}")
        low, high = (*self.batch, 0, 0)[:2]
        if len(self.batch) != 2 or not 1 <= low <= high <= MAX_BATCH:
            raise ValueError(
                f"batch must be (least, most) with 1 <= least <= most <= {MAX_BATCH}; "
                f"got {self.batch}"
            )

    def _check_objective(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise TypeError(f"schedule must be a Schedule; got {type(self.schedule).__name__}")
        if self.prediction not in PREDICTIONS:
            raise ValueError(
                f"unknown prediction {self.prediction!r}; allowed: {', '.join(PREDICTIONS)}"
            )
        if self.prediction == "edm" and self.schedule.kind != "ve":
            raise ValueError("prediction 'edm' needs a VESchedule")
        if not (math.isfinite(self.training_step) and self.training_step > 0.0):
            raise ValueError(f"training_step must be positive; got {self.training_step}")
        if not (math.isfinite(self.sigma_data) and self.sigma_data > 0.0):
            raise ValueError(f"sigma_data must be positive; got {self.sigma_data}")

    def _check_sampling(self) -> None:
        if self.value_range is not None and not (
            len(self.value_range) == 2
            and -math.inf < self.value_range[0] < self.value_range[1] < math.inf
        ):
            raise ValueError(f"value_range must be (lo, hi) with lo < hi; got {self.value_range}")
        if self.clip and self.value_range is None:
            raise ValueError("clip=True needs a value_range")
        if self.spacing not in SPACINGS:
            raise ValueError(f"unknown spacing {self.spacing!r}; allowed: {', '.join(SPACINGS)}")
        if self.final not in ("clean", "first"):
            raise ValueError(f"final must be 'clean' or 'first'; got {self.final!r}")

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one network output: ``shape``, or twice its channels with learned variance."""
        return (2 * self.shape[0], *self.shape[1:]) if self.learned_variance else self.shape

    @property
    def elements(self) -> int:
        """Elements a sample."""
        return math.prod(self.shape)

    @property
    def guidable(self) -> bool:
        """Whether classifier-free guidance is possible: every condition has a null value."""
        return bool(self.conditions) and all(c.null is not None for c in self.conditions)

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        values = dataclasses.asdict(dataclasses.replace(self, schedule=self.schedule))
        values["schedule"] = self.schedule.to_dict()
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DenoiserSpec:
        """The spec that ``to_dict`` wrote, also after a round trip through JSON.

        Raises:
            ValueError: An unknown or missing field, or a value that is not allowed.
            TypeError: A value of another type than the field's.
        """
        fields = _fields_from(cls, values, "the spec")
        if missing := {"shape", "schedule", "prediction"} - set(fields):
            raise ValueError(f"the spec lacks {', '.join(sorted(missing))}")
        fields["schedule"] = schedule_from_dict(fields["schedule"])
        if "time" in fields:
            fields["time"] = TimeInput(**_fields_from(TimeInput, fields["time"], "the time input"))
        if "conditions" in fields:
            fields["conditions"] = tuple(
                Condition(**_fields_from(Condition, c, "a condition")) for c in fields["conditions"]
            )
        if fields.get("decoder") is not None:
            fields["decoder"] = Decoder(**_fields_from(Decoder, fields["decoder"], "the decoder"))
        return cls(**fields)
