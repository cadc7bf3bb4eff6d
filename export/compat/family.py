"""What the schedulers of diffusers (0.42.1) have in common with a table's rows, and what not.

All schedulers with a sampler here are of one of four kinds: how the calls of a run follow from the
scheduler's own tables. The rest is how a step takes its arguments and what it gives.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any, Literal

Kind = Literal["timesteps", "plms", "indices", "levels", "pairs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """How one class calls, draws and rounds.

    Attributes:
        kind: ``timesteps``: the timestep says all, steps may come in any order; ``plms``: so it
            does, after those before; ``indices``: a call at each of its timesteps, counted;
            ``levels``: so at each of its sigmas; ``pairs``: two calls a step, counted.
        scaled: Whether its sample is x / alpha.
        scales_input: Whether the network is fed the sample times a number.
        options: Those of ``step`` that its rows depend on.
        draws: Where noise is drawn: ``used``, where the step uses it; ``always``, in every step of
            a sampler that has any, so that generators stay in step.
        result: The result's dtype: the output's, the sample's, or what both are promoted to.
        wide_noise: Whether noise is drawn in float32 whatever the output's dtype.
        anchor: Where a later call of a step goes on from an earlier sample than the one given:
            what that one still counts for, ``x0`` or ``slope``, or for nothing (``output``).
    """

    kind: Kind = "levels"
    scaled: bool = False
    scales_input: bool = False
    options: tuple[str, ...] = ()
    draws: Literal["used", "always"] = "used"
    result: Literal["promoted", "output", "sample"] = "promoted"
    wide_noise: bool = False
    anchor: Literal["x0", "slope", "output"] | None = None


_DDIM = Family(kind="timesteps", options=("eta", "use_clipped_model_output"), draws="always")
_DDPM = Family(kind="timesteps")

_EULER = Family(scaled=True, scales_input=True, result="output")
_HEUN = Family(kind="pairs", scaled=True, scales_input=True, anchor="slope")

FAMILIES: dict[str, Family] = {
    "DDIMScheduler": _DDIM,
    "DDIMParallelScheduler": _DDIM,
    "DDPMScheduler": _DDPM,
    "DDPMParallelScheduler": _DDPM,
    "PNDMScheduler": Family(kind="plms", anchor="output"),
    "DPMSolverMultistepScheduler": Family(draws="always", wide_noise=True),
    "DPMSolverSinglestepScheduler": Family(draws="always", anchor="x0"),
    "UniPCMultistepScheduler": Family(result="sample", anchor="x0"),
    "EulerDiscreteScheduler": _EULER,
    "EulerAncestralDiscreteScheduler": dataclasses.replace(_EULER, draws="always"),
    "HeunDiscreteScheduler": _HEUN,
    "LMSDiscreteScheduler": Family(scaled=True, scales_input=True, options=("order",)),
    "KDPM2DiscreteScheduler": _HEUN,
    "KDPM2AncestralDiscreteScheduler": _HEUN,
    "FlowMatchEulerDiscreteScheduler": Family(result="output", draws="always", wide_noise=True),
    "EDMEulerScheduler": Family(scales_input=True, result="output"),
    "EDMDPMSolverMultistepScheduler": Family(scales_input=True, draws="always"),
    "DEISMultistepScheduler": Family(),
    "FlowMatchHeunDiscreteScheduler": Family(kind="pairs", result="output", anchor="slope"),
    "FlowMatchLCMScheduler": Family(result="output", draws="always", wide_noise=True),
    "LTXEulerAncestralRFScheduler": Family(result="sample", wide_noise=True),
    "SASolverScheduler": Family(draws="always", result="sample", anchor="x0"),
    "LCMScheduler": Family(kind="indices"),
    "TCDScheduler": Family(kind="indices", options=("eta",)),
    "CMStochasticIterativeScheduler": Family(scales_input=True, draws="always"),
    "CogVideoXDDIMScheduler": Family(kind="timesteps"),
}

NOT_FUSED = {
    "FlowMapEulerDiscreteScheduler": "its step is told where it goes by each call",
    "UnCLIPScheduler": "its step is told where it goes by each call",
    "CogVideoXDPMScheduler": "its step takes and gives the estimate of the call before",
    "SCMScheduler": "its angles are none of the kinds of calls that are followed here",
    "IPNDMScheduler": "its rows find the noise of the first call in the sample that it left, which "
    "a caller may have changed",
    "CosineDPMSolverMultistepScheduler": "its noise comes from a Brownian tree",
}
"""Schedulers with a sampler here whose step's interface is another."""


def output_class(step: Any) -> tuple[type[Any], str | None]:
    """What a scheduler's ``step`` returns by its annotation, and the name of its second part."""
    annotation = inspect.signature(step).return_annotation
    found = next(c for c in typing.get_args(annotation) if dataclasses.is_dataclass(c))
    assert isinstance(found, type)
    names = [field.name for field in dataclasses.fields(found)]
    return found, names[1] if len(names) > 1 else None
