"""A diffusers scheduler config as the schedule, prediction and sampling defaults of a spec.

A config mixes what the network was trained with and defaults of sampling (fields of the spec), the
choices of one sampler (the sampler, to be given to ``sample``), and options that change the meaning
of either in a way that none of them can say (refused by name).
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import warnings
from typing import Any

from revstep.engine.errors import ExportError
from revstep.engine.program.reductions import NO_ROWS, REDUCTIONS
from revstep.engine.program.samplers import BaseSampler
from revstep.engine.program.samplers.choice import choice_of
from revstep.engine.spec.grids import Grid, ShiftedGrid
from revstep.engine.spec.sampler_choice import SamplerChoice
from revstep.engine.spec.schedule import FlowSchedule, VPSchedule
from revstep.engine.spec.second_time import SecondTime
from revstep.export.sources.diffusers_grid import flow_grid, flow_sigmas_grid, vp_grid
from revstep.export.sources.diffusers_levels import COSINE, COSINE_DEFAULTS, LEVELS
from revstep.export.sources.diffusers_sampler import KEYS, SAMPLERS, scheduler_sampler

FLOW_SCHEDULERS = (
    "FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler",
    "LTXEulerAncestralRFScheduler",
)  # fmt: skip
FLOW_MAPS = ("FlowMapEulerDiscreteScheduler",)
"""Of networks of two times."""
EDM_SCHEDULERS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
OF_TRAINING = ("DDPMScheduler", "DDPMParallelScheduler")
VP_SCHEDULERS = tuple(n for n in SAMPLERS if n not in (*FLOW_SCHEDULERS, *FLOW_MAPS, *LEVELS))
IGNORE_CLIP = ("TCDScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
END_AT_FIRST = ("DEISMultistepScheduler", "SASolverScheduler")
NO_SAMPLER = {
    "DPMSolverSDEScheduler": "dpmpp_sde",
    "PiflowScheduler": "piflow",
    "RFD4ProteinaScheduler": "rfd4_proteina",
}
CARRIED = {
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas",
    "prediction_type", "clip_sample", "clip_sample_range", "clip_denoised", "timestep_spacing",
    "steps_offset",
    "set_alpha_to_one", "final_sigmas_type", "rescale_betas_zero_snr", "variance_type",
    "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas",
    "use_flow_sigmas", "flow_shift", "shift", "shift_terminal", "use_dynamic_shifting",
    "sigma_min", "sigma_max", "sigma_data", "sigma_schedule", "rho", "lambda_min_clipped",
    "snr_shift_scale",
    *KEYS,
}  # fmt: skip
ONLY: dict[str, tuple[Any, ...]] = {
    "interpolation_type": ("linear",),
    "timestep_type": ("discrete",),
    "invert_sigmas": (False,),
    "predict_epsilon": (True,),
    "scale_factors": (None, []),
}
OF_WHAT_IS_REFUSED = {  # without effect where thresholding and use_dynamic_shifting are off
    "dynamic_thresholding_ratio", "sample_max_value", "time_shift_type", "base_shift",
    "max_shift", "base_image_seq_len", "max_image_seq_len", "upscale_mode",
}  # fmt: skip
OLD_FIELDS = {"spacing": "grid", "spacing_offset": "grid_offset"}  # until the next version
PREDICTIONS = ("epsilon", "sample", "v_prediction")
BETA_KINDS = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")

logger = logging.getLogger(__name__)


class SpecFields(dict[str, Any]):
    """Fields of ``DenoiserSpec``, which are read by their old names too."""

    def __missing__(self, name: str) -> Any:
        if (new := OLD_FIELDS.get(name)) is None:
            raise KeyError(name)
        warnings.warn(f"{name} is now {new}", DeprecationWarning, stacklevel=2)
        return self[new]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What the scheduler's config says.

    Attributes:
        spec_fields: schedule, prediction, value_range, clip, grid, grid_offset, final, and
            sigma_data for EDM; second_time of flow maps.
        time_kind: What the network is fed.
        learned_variance: Whether the config says that the network predicts a variance.
        sampler: The scheduler itself: ``engine.sample(sampler=..., compat="diffusers")`` is its
            run. None where there is no such sampler here, which a warning says.
        choice: The same as a spec's ``sampler``. None for DDPM's schedulers too, whose configs say
            how a network was trained, and not how it is best drawn with.
        time_scale: The network is fed so many times what ``time_kind`` says.
    """

    spec_fields: dict[str, Any]
    time_kind: str
    learned_variance: bool
    sampler: BaseSampler | None = None
    choice: SamplerChoice | None = None
    time_scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec_fields", SpecFields(self.spec_fields))


def read_scheduler(config: dict[str, Any], *, tokens: int | None = None) -> Sampling:
    """The meaning of a ``scheduler_config.json``, as of diffusers 0.42.

    What a key means that is left out is taken from the scheduler's own signature. For a spec of
    one's own, with the scheduler's run::

        read = read_scheduler(json.load(open("scheduler_config.json")))
        time = TimeInput(kind=read.time_kind, fractions=True)
        spec = DenoiserSpec(shape=(4, 64, 64), time=time, **read.spec_fields)
        engine = revstep.from_module(network, spec)
        engine.sample(4, steps=20, sampler=read.sampler, compat="diffusers")

    Args:
        config: The file's values, or ``dict(scheduler.config)`` and its ``_class_name``.
        tokens: Tokens of the picture, of which ``use_dynamic_shifting`` makes the shift.

    Raises:
        ExportError: An unknown scheduler or field, or one that a spec can't carry.
    """
    values = _values(config)
    for name, allowed in ONLY.items():
        if name in values and values[name] not in allowed:
            raise ExportError(
                f"the scheduler has {name}={values[name]!r}, which a bundle does not carry; "
                f"allowed: {', '.join(map(repr, allowed))}. If the training did not depend on it, "
                "change it in scheduler_config.json; the sampler is chosen when sampling"
            )
    if values.get("thresholding"):
        reason, fix = REDUCTIONS["thresholding"]
        raise ExportError(
            f"the scheduler has thresholding=True, which is refused: {reason}, and a step here is "
            "one affine pass. Set it to false in scheduler_config.json, clip_sample to true where "
            "the data has fixed ends, and ",
            fix,
        )
    name = config["_class_name"]
    try:
        found = _read(name, values, tokens)
        sampler, chosen = scheduler_sampler(name, values), None
        if sampler is not None and name not in OF_TRAINING:
            chosen = choice_of(sampler, "diffusers")
        return dataclasses.replace(found, sampler=sampler, choice=chosen)
    except (TypeError, ValueError) as error:
        raise ExportError(f"the scheduler's config is not valid: {error}") from error


def _read(name: str, values: dict[str, Any], tokens: int | None) -> Sampling:
    if name in FLOW_SCHEDULERS:
        return _flow(values, flow_grid(values, tokens))
    if name in FLOW_MAPS:
        found = _flow(values, ShiftedGrid(values["shift"]))
        own = {"prediction": "average_velocity", "second_time": SecondTime(kind="thousand")}
        return dataclasses.replace(found, spec_fields={**found.spec_fields, **own})
    if (of_levels := LEVELS.get(name)) is not None:
        return Sampling(**of_levels(values), learned_variance=False)
    if values.get("use_flow_sigmas"):
        return _flow_sigmas(name, values)
    return _vp(name, values)


def _values(config: dict[str, Any]) -> dict[str, Any]:
    """The config over the scheduler's own defaults."""
    import diffusers

    name = config.get("_class_name")
    if name in NO_SAMPLER:
        raise ExportError(f"the scheduler is {name!r}, refused: {NO_ROWS[NO_SAMPLER[name]]}")
    if name not in SAMPLERS:
        raise ExportError(
            f"the scheduler is {name!r}; allowed: {', '.join(SAMPLERS)}. Otherwise write a "
            "factory: revstep export package.module:factory"
        )
    own = dict(COSINE_DEFAULTS)
    if name != COSINE:
        signature = inspect.signature(getattr(diffusers, name).__init__)
        own = {k: p.default for k, p in signature.parameters.items() if k != "self"}
    values = dict(own)
    for key, value in config.items():
        known = key in CARRIED or key in ONLY or key in OF_WHAT_IS_REFUSED or key in REDUCTIONS
        if key.startswith("_") or (key in own and not known and value == own[key]):
            continue
        if not known:
            raise ExportError(
                f"the scheduler's config has the field {key!r} = {value!r}, whose meaning this "
                "revstep does not know; remove it if the training did not depend on it"
            )
        if key in own or key == "predict_epsilon":
            values[key] = value
        else:
            logger.debug("%s ignores %s=%r, and so does the import", name, key, value)
    return values


def _vp(name: str, values: dict[str, Any]) -> Sampling:
    prediction = values.get("prediction_type", "epsilon")
    if prediction not in PREDICTIONS:
        raise ExportError(
            f"the scheduler has prediction_type={prediction!r}; allowed: {', '.join(PREDICTIONS)}"
        )
    variance = values.get("variance_type")
    if variance == "learned":
        raise ExportError(
            "the scheduler has variance_type='learned' (the log variance itself); a bundle carries "
            "'learned_range' (Nichol & Dhariwal 2021) and the fixed ones"
        )
    clip = bool(values.get("clip_sample", False)) and name not in IGNORE_CLIP
    bound = float(values.get("clip_sample_range") or 1.0)
    schedule = _vp_schedule(values)
    return Sampling(
        spec_fields={
            "schedule": schedule,
            "prediction": prediction,
            "value_range": (-bound, bound) if clip else None,
            "clip": clip,
            "grid": vp_grid(name, values, schedule),
            "grid_offset": int(values.get("steps_offset", 0)),
            "final": _vp_final(name, values),
        },
        time_kind="index",
        learned_variance=variance == "learned_range",
    )


def _vp_final(name: str, values: dict[str, Any]) -> str:
    if name in END_AT_FIRST or values.get("final_sigmas_type", "zero") == "sigma_min":
        return "first"
    return "clean" if values.get("set_alpha_to_one", True) else "first_ddim"


def _vp_schedule(values: dict[str, Any]) -> VPSchedule:
    steps, kind = values["num_train_timesteps"], values["beta_schedule"]
    more: dict[str, Any] = {
        "zero_terminal_snr": bool(values.get("rescale_betas_zero_snr", False)),
        "snr_shift": float(values.get("snr_shift_scale", 1.0)),
    }
    trained = values.get("trained_betas")
    if trained is not None:
        return dataclasses.replace(VPSchedule.from_betas(trained), **more)
    if kind not in BETA_KINDS:
        raise ExportError(
            f"the scheduler has beta_schedule={kind!r}; allowed: {', '.join(BETA_KINDS)}, or "
            "trained_betas"
        )
    own = VPSchedule(steps=steps, betas=kind, **more)
    ends = {end: values.get(end, getattr(own, end)) for end in ("beta_start", "beta_end")}
    return dataclasses.replace(own, **ends)


def _flow(values: dict[str, Any], grid: str | Grid) -> Sampling:
    if values["num_train_timesteps"] != 1000:
        raise ExportError(
            f"a flow scheduler with num_train_timesteps={values['num_train_timesteps']} is not "
            "carried; allowed: 1000"
        )
    return Sampling(
        spec_fields={
            "schedule": FlowSchedule(steps=1000),
            "prediction": "flow",
            "value_range": None,
            "clip": False,
            "grid": grid,
            "grid_offset": 0,
            "final": "clean",
        },
        time_kind="thousand",
        learned_variance=False,
    )


def _flow_sigmas(name: str, values: dict[str, Any]) -> Sampling:
    """A VP scheduler run on a flow; its betas are not looked at."""
    if values.get("prediction_type") != "flow_prediction":
        raise ExportError(
            f"the scheduler has use_flow_sigmas with prediction_type="
            f"{values.get('prediction_type')!r}; allowed: 'flow_prediction'"
        )
    if values.get("final_sigmas_type", "zero") != "zero":
        raise ExportError(
            f"the scheduler has use_flow_sigmas with final_sigmas_type="
            f"{values['final_sigmas_type']!r}; allowed: 'zero'"
        )
    found = _flow(values, flow_sigmas_grid(name, values))
    if name in END_AT_FIRST:
        found.spec_fields["final"] = "first"
    return found
