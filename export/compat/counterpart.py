"""The spec and the sampler that a live scheduler means, or the reason why there is none."""

from __future__ import annotations

import inspect
from typing import Any

from revstep.engine.errors import ExportError, ProgramError
from revstep.engine.program.samplers import BaseSampler
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.parts import TimeInput
from revstep.export.sources.diffusers_levels import LEVELS
from revstep.export.sources.diffusers_sampler import SAMPLERS
from revstep.export.sources.diffusers_schedule import FLOW_SCHEDULERS, read_scheduler

OF_THE_GRID = {  # the scheduler's own timesteps and sigmas are taken, whatever made them
    "timestep_spacing", "steps_offset", "use_karras_sigmas", "use_exponential_sigmas",
    "use_beta_sigmas", "use_lu_lambdas", "sigma_schedule", "rho", "lambda_min_clipped",
    "final_sigmas_type", "interpolation_type", "timestep_type", "invert_sigmas", "shift",
    "flow_shift", "shift_terminal", "use_dynamic_shifting",
}  # fmt: skip
OF_LEVELS = {"sigma_min", "sigma_max"}  # of a process over levels; elsewhere ends of a grid
FLOW_STEPS = 1000  # of a spec's flow; how many a scheduler counts only names its timesteps


def counterpart(scheduler: Any) -> tuple[DenoiserSpec, BaseSampler]:
    """What a scheduler's rows are traced from.

    Args:
        scheduler: An instance of a class of ``FAMILIES``, by name.

    Raises:
        ProgramError: A setting that no row can have, by name.
    """
    name = type(scheduler).__name__
    known = inspect.signature(type(scheduler).__init__).parameters
    values = {key: value for key, value in scheduler.config.items() if key in known}
    try:
        SAMPLERS[name](values)  # raises the reason where read_scheduler only warns
    except ExportError as error:
        raise ProgramError(f"no row of a table is a step of this {name}: {error}") from error
    except Exception as reason:
        raise ProgramError(
            f"{name} has {reason}, for which there is no sampler here: keep diffusers' own step, "
            "or change the setting, as by RevstepScheduler.from_scheduler("
            f"{name}.from_config(scheduler.config, ...))"
        ) from reason
    kept = {
        key: value
        for key, value in values.items()
        if key not in OF_THE_GRID and (name in LEVELS or key not in OF_LEVELS)
    }
    if name in FLOW_SCHEDULERS or values.get("use_flow_sigmas"):
        kept["num_train_timesteps"] = FLOW_STEPS
    try:
        read = read_scheduler({"_class_name": name, **kept})
    except ExportError as error:
        raise ProgramError(f"no row of a table is a step of this {name}: {error}") from error
    assert read.sampler is not None
    time = TimeInput(kind=read.time_kind, fractions=True)
    spec = DenoiserSpec(
        shape=(1,), time=time, learned_variance=read.learned_variance, **read.spec_fields
    )
    return spec, read.sampler
