"""What the schedulers of diffusers (0.42.1) have in common with a table's rows, and what not.

All schedulers with a sampler here are of one of four kinds: how the calls of a run follow from the
scheduler's own tables. The rest is how a step takes its arguments and what it gives.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any, Literal

Kind = Literal["timesteps", "plms", "levels", "pairs"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """How one class calls, draws and rounds.

    Attributes:
        kind: ``timesteps``: the timestep says all, steps may come in any order; ``plms``: so it
            does, after those before; ``levels``: a call at each of its sigmas, counted;
            ``pairs``: two calls a step, counted.
        scaled: Whether its sample is x / alpha.
        draws: Where noise is drawn: ``used``, where the step uses it; ``always``, in every step of
            a sampler that has any, so that generators stay in step.
        result: The result's dtype: the output's, the sample's, or what both are promoted to.
        wide_noise: Whether noise is drawn in float32 whatever the output's dtype.
        anchor: Where a later call of a step goes on from an earlier sample than the one given:
            what that one still counts for, ``x0`` or ``slope``, or for nothing (``output``).
    """

    kind: Kind = "levels"
    scaled: bool = False
    draws: Literal["used", "always"] = "used"
    result: Literal["promoted", "output", "sample"] = "promoted"
    wide_noise: bool = False
    anchor: Literal["x0", "slope", "output"] | None = None


_DDIM = Family(kind="timesteps", draws="always")
_DDPM = Family(kind="timesteps")

FAMILIES: dict[str, Family] = {
    "DDIMScheduler": _DDIM,
    "DDIMParallelScheduler": _DDIM,
    "DDPMScheduler": _DDPM,
    "DDPMParallelScheduler": _DDPM,
    "PNDMScheduler": Family(kind="plms", anchor="output"),
    "DPMSolverMultistepScheduler": Family(draws="always", wide_noise=True),
    "DPMSolverSinglestepScheduler": Family(draws="always", anchor="x0"),
    "UniPCMultistepScheduler": Family(result="sample", anchor="x0"),
    "EulerDiscreteScheduler": Family(scaled=True, result="output"),
    "EulerAncestralDiscreteScheduler": Family(scaled=True, result="output", draws="always"),
    "HeunDiscreteScheduler": Family(kind="pairs", scaled=True, anchor="slope"),
    "LMSDiscreteScheduler": Family(scaled=True),
    "KDPM2DiscreteScheduler": Family(kind="pairs", scaled=True, anchor="slope"),
    "KDPM2AncestralDiscreteScheduler": Family(kind="pairs", scaled=True, anchor="slope"),
    "FlowMatchEulerDiscreteScheduler": Family(result="output", draws="always", wide_noise=True),
    "EDMEulerScheduler": Family(result="output"),
    "EDMDPMSolverMultistepScheduler": Family(draws="always"),
}


def output_class(step: Any) -> tuple[type[Any], bool]:
    """What a scheduler's ``step`` returns by its annotation, and whether x0 is part of it."""
    annotation = inspect.signature(step).return_annotation
    found = next(c for c in typing.get_args(annotation) if dataclasses.is_dataclass(c))
    assert isinstance(found, type)
    return found, any(f.name == "pred_original_sample" for f in dataclasses.fields(found))
