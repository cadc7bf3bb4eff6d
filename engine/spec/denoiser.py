"""``DenoiserSpec``: all that the engine must know of a trained denoiser besides its weights."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from revstep.engine.checks import (
    check_bool,
    check_identifier,
    check_number,
    check_one_of,
    check_sequence,
    check_shape,
    check_type,
    check_whole,
    got,
    wrong_type,
)
from revstep.engine.renamed import renamed, renamed_fields
from revstep.engine.spec.encoder import Encoder, PictureEncoder, check_encoders
from revstep.engine.spec.fields import LATER, SHAPE, fields_from, keyed
from revstep.engine.spec.grids import Grid, grid_from_value, resolve_grid
from revstep.engine.spec.parts import LEVEL_KINDS, TIME_KINDS, Condition, Decoder, TimeInput
from revstep.engine.spec.prediction import OVER_AN_INTERVAL, PRECONDITIONED, PREDICTIONS
from revstep.engine.spec.sampler_choice import SamplerChoice
from revstep.engine.spec.schedule import Schedule, schedule_from_dict
from revstep.engine.spec.second_time import SecondTime

__all__ = ["MAX_BATCH", "Condition", "Decoder", "DenoiserSpec", "TimeInput"]

MAX_BATCH = 65_536
INDEX_TIME = TimeInput()
TUPLES = {
    "shape": SHAPE,
    "conditions": "a tuple of Condition, as (Condition(...),) with a comma",
    "encoders": "a tuple of Encoder, as (Encoder(...),) with a comma",
    "batch": "(min, max) network rows per call, as (1, 64)",
    "value_range": "(lo, hi), as (-1.0, 1.0), or None",
}


@renamed_fields(spacing="grid", spacing_offset="grid_offset")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserSpec:
    """A denoiser's inputs, outputs and training objective.

    Attributes:
        shape: Shape of one sample, without the batch: (C, H, W), (horizon, actions), ...
        schedule: The noise schedule it was trained with.
        prediction: What it predicts (``revstep.engine.spec.prediction``).
        name: Name of the state input, float32 (B, *shape).
        time: The time input.
        second_time: The second time input of a network of two times.
        conditions: Further inputs, in the order in which the module takes them.
        learned_variance: The output has twice the channels: (2 C, ...), mean part first (Nichol &
            Dhariwal 2021).
        training_step: For ``mean``: length of the training step, in training indices.
        sigma_data: Standard deviation of the data: for ``edm`` and ``edm_v``.
        value_range: (lo, hi) of the data, for clipping and for conversion to images; None where
            data has no bounds.
        clip: Whether samplers clip the denoised estimate to ``value_range`` by default.
        grid: Default time grid: a name or a grid (``revstep.engine.spec.grids``).
        grid_offset: The offset of ``leading`` grids that have none of their own.
        final: Where sampling ends: ``clean`` (sigma = 0), ``first`` (training index 0), or
            ``first_ddim``: index 0 for DDIM and PNDM, clean for other samplers, as diffusers has it
            with ``set_alpha_to_one=False``.
        decoder: The latent decoder's description, if the bundle has one.
        encoders: Networks that give some of the conditions, once a request.
        picture_encoder: The encoder of pictures to latents, if the bundle has one.
        sampler: What ``Engine.sample`` runs where its caller names no sampler; None: ``ddim``, or
            ``flow_map`` for a network of two times.
        batch: (min, max) network rows per call.
    """

    shape: tuple[int, ...]
    schedule: Schedule
    prediction: str
    name: str = "sample"
    time: TimeInput = INDEX_TIME
    second_time: SecondTime | None = None
    conditions: tuple[Condition, ...] = ()
    learned_variance: bool = False
    training_step: float = 1.0
    sigma_data: float = 0.5
    value_range: tuple[float, float] | None = None
    clip: bool = False
    grid: str | Grid = "trailing"
    grid_offset: int = 0
    final: str = "clean"
    decoder: Decoder | None = None
    encoders: tuple[Encoder, ...] = ()
    picture_encoder: PictureEncoder | None = None
    sampler: SamplerChoice | None = None
    batch: tuple[int, int] = (1, 64)

    @classmethod
    def edm(
        cls,
        shape: tuple[int, ...],
        *,
        sigma_data: float = 0.5,
        sigma_min: float = 0.002,
        sigma_max: float = 80.0,
        rho: float = 7.0,
        **fields: Any,
    ) -> DenoiserSpec:
        """The spec of an EDM network (Karras et al. 2022, table 1).

        The network is the raw F of D = c_skip x + c_out F(c_in x, c_noise): it is fed c_in x and
        c_noise = ln(sigma) / 4, and sampled on the paper's grid. ``fields`` are further fields of
        the spec, and change these.
        """
        from revstep.engine.spec.grids import KarrasGrid
        from revstep.engine.spec.schedule import VESchedule

        own: dict[str, Any] = {
            "schedule": VESchedule.edm(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho),
            "prediction": "edm",
            "sigma_data": sigma_data,
            "time": TimeInput(kind="log_sigma", fractions=True),
            "grid": KarrasGrid(rho=rho),
        }
        return cls(shape=shape, **(own | fields))

    @classmethod
    def trigflow(
        cls, shape: tuple[int, ...], *, sigma_data: float = 0.5, **fields: Any
    ) -> DenoiserSpec:
        """The spec of a TrigFlow network (Lu & Song 2024, eq. 6).

        The network is the F of D = cos(t) x - sin(t) sigma_data F(x / sigma_data, t): it is fed
        x / sigma_data and the angle t. ``fields`` are further fields of the spec, and change these.
        """
        from revstep.engine.spec.schedule import TrigFlowSchedule

        own: dict[str, Any] = {
            "schedule": TrigFlowSchedule(sigma_data=sigma_data),
            "prediction": "edm_v",
            "sigma_data": sigma_data,
            "time": TimeInput(kind="angle"),
        }
        return cls(shape=shape, **(own | fields))

    def __post_init__(self) -> None:
        self._check_types()
        self._check_inputs()
        self._check_objective()
        self._check_sampling()

    def _check_types(self) -> None:
        """Makes tuples of lists, and refuses values of another type than the field's."""
        for name, allowed in TUPLES.items():
            if (value := getattr(self, name)) is not None or name != "value_range":
                object.__setattr__(self, name, check_sequence(value, name, allowed))
        for value in self.conditions:
            check_type(value, "conditions", Condition, TUPLES["conditions"])
        time: object = self.time
        if not isinstance(time, TimeInput):
            hint = f": TimeInput(kind={time!r})?" if time in TIME_KINDS else ""
            raise TypeError(f"time must be a TimeInput; got {got(time)}{hint}")
        if self.second_time is not None:
            check_type(self.second_time, "second_time", SecondTime, "a SecondTime or None")
        if self.decoder is not None:
            check_type(self.decoder, "decoder", Decoder, "a Decoder or None")
        for encoder in self.encoders:
            check_type(encoder, "encoders", Encoder, TUPLES["encoders"])
        if self.picture_encoder is not None:
            allowed = "a PictureEncoder or None"
            check_type(self.picture_encoder, "picture_encoder", PictureEncoder, allowed)
        if self.sampler is not None:
            check_type(self.sampler, "sampler", SamplerChoice, "a SamplerChoice or None")
        for value in self.batch:
            check_whole(value, "batch")
        for value in self.value_range or ():
            check_number(value, "value_range")
        if self.value_range is not None:
            object.__setattr__(self, "value_range", tuple(float(v) for v in self.value_range))
        for name in ("training_step", "sigma_data"):
            check_number(getattr(self, name), name)
        for name in ("learned_variance", "clip"):
            check_bool(getattr(self, name), name)

    def _check_inputs(self) -> None:
        check_shape(self.shape, "the sample shape", empty=False)
        names = self.input_names
        check_identifier(self.name, "the state's name")
        if len(set(names)) != len(names):
            raise ValueError(f"input names must differ; got {', '.join(names)}")
        check_encoders(self.encoders, self.conditions)
        if self.picture_encoder is not None and self.decoder is None:
            raise ValueError("a picture_encoder needs a decoder, whose scale and range it shares")
        low, high = (*self.batch, 0, 0)[:2]
        if len(self.batch) != 2 or not 1 <= low <= high <= MAX_BATCH:
            raise ValueError(
                f"batch must be (min, max) with 1 <= min <= max <= {MAX_BATCH}; got {self.batch}"
            )

    def _check_objective(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise wrong_type(self.schedule, "schedule", "a Schedule")
        check_one_of(self.prediction, "prediction", PREDICTIONS)
        for time in self.times:
            self._check_fed_level(time.kind)
        self._check_interval()
        if not (math.isfinite(self.training_step) and self.training_step > 0.0):
            raise ValueError(f"training_step must be positive; got {self.training_step}")
        if not (math.isfinite(self.sigma_data) and self.sigma_data > 0.0):
            raise ValueError(f"sigma_data must be positive; got {self.sigma_data}")
        own = getattr(self.schedule, "sigma_data", self.sigma_data)
        if self.prediction in PRECONDITIONED and own != self.sigma_data:
            raise ValueError(
                f"the spec has sigma_data={self.sigma_data:g} and its TrigFlowSchedule {own:g}; "
                "give both the standard deviation of the data"
            )

    def _check_interval(self) -> None:
        """Refuses predictions over an interval that nothing is said of."""
        prediction = self.prediction
        if prediction in OVER_AN_INTERVAL and self.second_time is None:
            raise ValueError(
                f"prediction {prediction!r} is over the interval that a step crosses, whose end "
                "the network must be fed: give the spec's second_time, as SecondTime(kind='unit')"
            )
        if prediction == "average_velocity" and self.schedule.kind != "flow":
            raise ValueError(
                "prediction 'average_velocity' needs a FlowSchedule: x_r = x_t - (t - r) u; this "
                f"schedule is {self.schedule.kind!r}"
            )

    def _check_fed_level(self, kind: str) -> None:
        """Refuses a time input that has no finite number for the last training index."""
        if kind not in LEVEL_KINDS or kind == "angle":
            return
        schedule = self.schedule
        alpha, _ = schedule.alpha_sigma(schedule.from_index(schedule.steps - 1))
        if alpha == 0.0 and (schedule.kind != "flow" or kind == "log_snr"):
            raise ValueError(
                f"a network that is fed {kind!r} can't be fed the last training index, where "
                "alpha = 0 and the noise level is infinite (zero terminal SNR, or a flow's t = 1): "
                "feed it 'index', 'unit' or 'thousand', or give the schedule that it was trained "
                "with, such as VPSchedule.from_sigmas(...)"
            )

    def _check_sampling(self) -> None:
        if self.value_range is not None and not (
            len(self.value_range) == 2
            and -math.inf < self.value_range[0] < self.value_range[1] < math.inf
        ):
            raise ValueError(f"value_range must be (lo, hi) with lo < hi; got {self.value_range}")
        if self.clip and self.value_range is None:
            raise ValueError("clip=True needs a value_range")
        resolve_grid(self.grid)
        last, more = self.schedule.steps - 1, ", a training index"
        check_whole(self.grid_offset, "grid_offset", 0, last, more=more)
        check_one_of(self.final, "final", ("clean", "first", "first_ddim"))

    @property
    def times(self) -> tuple[TimeInput | SecondTime, ...]:
        """The time input, and the second one if there is any."""
        return (self.time,) if self.second_time is None else (self.time, self.second_time)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs in the order in which the module takes them: state, times, conditions."""
        return (self.name, *(t.name for t in self.times), *(c.name for c in self.conditions))

    @property
    def usual_sampler(self) -> str:
        """The deterministic sampler that any such network runs with."""
        return "ddim" if self.second_time is None else "flow_map"

    @property
    def default_sampler(self) -> SamplerChoice:
        """What runs where a caller names no sampler."""
        return self.sampler or SamplerChoice(self.usual_sampler)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one network output: ``shape``, or twice its channels with learned variance."""
        return (2 * self.shape[0], *self.shape[1:]) if self.learned_variance else self.shape

    @property
    def elements(self) -> int:
        """Elements per sample."""
        return math.prod(self.shape)

    @property
    def guidable(self) -> bool:
        """Whether classifier-free guidance is possible: every condition has a null value.

        Its own, or what its encoder gives for the null values of its inputs.
        """
        encoded = {name for e in self.encoders if e.nullable for name in e.conditions}
        return bool(self.conditions) and all(
            c.null is not None or c.name in encoded for c in self.conditions
        )

    @renamed(spacing="grid")
    def grid_of(self, grid: str | Grid | None = None) -> Grid:
        """The grid of a run, or the spec's own where it is None, with the spec's offset.

        Raises:
            ValueError: An unknown name.
            TypeError: Neither a name nor a grid.
        """
        grid = resolve_grid(self.grid if grid is None else grid)
        return grid.with_offset(self.grid_offset)

    def to_dict(self) -> dict[str, Any]:
        """The spec as plain JSON values."""
        values = dataclasses.asdict(self)
        values["schedule"] = self.schedule.to_dict()
        values["conditions"] = tuple(c.to_dict() for c in self.conditions)
        values["encoders"] = tuple(e.to_dict() for e in self.encoders)
        values["sampler"] = None if self.sampler is None else self.sampler.to_dict()
        if self.decoder is not None:
            values["decoder"] = self.decoder.to_dict()
        for name in LATER["DenoiserSpec"]:  # earlier versions read specs that don't have them
            if not values[name]:
                del values[name]
        if isinstance(self.grid, Grid):
            values["grid"] = self.grid.to_dict()
        return keyed(values)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DenoiserSpec:
        """The spec that ``to_dict`` wrote, also after a round trip through JSON.

        Raises:
            ValueError: An unknown or missing field, or a value that is not allowed.
            TypeError: A value of another type than the field's.
        """
        fields = fields_from(cls, values, "the spec")
        fields["schedule"] = schedule_from_dict(fields["schedule"])
        fields["grid"] = grid_from_value(fields["grid"])
        fields["time"] = TimeInput(**fields_from(TimeInput, fields["time"], "the time input"))
        if (second := fields.get("second_time")) is not None:
            second = SecondTime(**fields_from(SecondTime, second, "the second time"))
            fields["second_time"] = second
        fields["conditions"] = tuple(Condition.from_dict(c) for c in fields["conditions"])
        if fields["decoder"] is not None:
            fields["decoder"] = Decoder(**fields_from(Decoder, fields["decoder"], "the decoder"))
        fields["encoders"] = tuple(Encoder.from_dict(e) for e in fields.get("encoders", ()))
        if (found := fields.get("picture_encoder")) is not None:
            what = "the picture encoder"
            fields["picture_encoder"] = PictureEncoder(**fields_from(PictureEncoder, found, what))
        if (found := fields.get("sampler")) is not None:
            fields["sampler"] = SamplerChoice.from_dict(found)
        return cls(**fields)
