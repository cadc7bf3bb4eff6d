"""diffusers' schedulers over noise levels and angles, as fields of a spec.

EDM's, consistency models', SANA-Sprint's (SCM), Stable Audio's and Dance Diffusion's (IPNDM).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from revstep.engine.errors import ExportError
from revstep.engine.spec.grids import ExponentialGrid, Grid, KarrasGrid, TimeGrid
from revstep.engine.spec.schedule import Schedule, TrigFlowSchedule, VESchedule

MIDDLE = 1.3  # SCMScheduler's own second angle of two steps
COSINE = "CosineDPMSolverMultistepScheduler"
COSINE_DEFAULTS: dict[str, Any] = {  # its class can't be looked at without torchsde
    "sigma_min": 0.3, "sigma_max": 500.0, "sigma_data": 1.0, "sigma_schedule": "exponential",
    "num_train_timesteps": 1000, "solver_order": 2, "prediction_type": "v_prediction", "rho": 7.0,
    "solver_type": "midpoint", "lower_order_final": True, "euler_at_final": False,
    "final_sigmas_type": "zero",
}  # fmt: skip


def _edm(values: dict[str, Any]) -> dict[str, Any]:
    """EDM: sigma from sigma_max to sigma_min, the network fed c_in x and log(sigma) / 4."""
    karras = values["sigma_schedule"] == "karras"
    schedule = VESchedule(
        steps=values["num_train_timesteps"],
        sigma_min=values["sigma_min"],
        sigma_max=values["sigma_max"],
        levels="karras" if karras else "geometric",
        rho=values["rho"],
    )
    grid: str | Grid = KarrasGrid(rho=values["rho"]) if karras else "exponential"
    final = "first" if values["final_sigmas_type"] == "sigma_min" else "clean"
    fields = _fields(values, schedule, _prediction(values), grid, final=final)
    return {"spec_fields": fields, "time_kind": "log_sigma"}


def _consistency(values: dict[str, Any]) -> dict[str, Any]:
    """A consistency model: EDM's network, fed 250 log(sigma), at the indices of its training."""
    if values["s_noise"] != 1.0:
        raise ExportError(f"the scheduler has s_noise={values['s_noise']!r}; allowed: 1.0")
    schedule = VESchedule.edm(
        steps=values["num_train_timesteps"],
        sigma_min=values["sigma_min"],
        sigma_max=values["sigma_max"],
        rho=values["rho"],
    )
    fields = _fields(values, schedule, "edm", "trailing")
    if values["clip_denoised"]:
        fields |= {"value_range": (-1.0, 1.0), "clip": True}
    return {"spec_fields": fields, "time_kind": "log_sigma", "time_scale": 1000.0}


def _scm(values: dict[str, Any]) -> dict[str, Any]:
    """TrigFlow in two steps, or over ``trailing`` in others.

    The network is the F of SANA-Sprint's pipeline: fed x / sigma_data and the angle, it gives the
    velocity / sigma_data.

    Raises:
        ExportError: Another prediction than TrigFlow's.
    """
    if values["prediction_type"] != "trigflow":
        raise ExportError(
            f"the scheduler has prediction_type={values['prediction_type']!r}; allowed: 'trigflow'"
        )
    steps = values["num_train_timesteps"]
    grid = TimeGrid(times=(steps - 1.0, steps * MIDDLE / (math.pi / 2.0) - 1.0))
    schedule = TrigFlowSchedule(steps=steps, sigma_data=float(values["sigma_data"]))
    return {"spec_fields": _fields(values, schedule, "edm_v", grid), "time_kind": "angle"}


def _cosine(values: dict[str, Any]) -> dict[str, Any]:
    """Stable Audio's: its process over sigma is TrigFlow's of x cos t with t = atan(sigma).

    The network is fed 2 t / pi.

    Raises:
        ExportError: Data of another spread than 1, whose angle would be another; another end.
    """
    for key, allowed in (("sigma_data", 1.0), ("final_sigmas_type", "zero")):
        if values[key] != allowed:
            raise ExportError(
                f"the scheduler has {key}={values[key]!r}; allowed: {allowed!r}, as Stable Audio "
                "has it. Otherwise write a factory with DenoiserSpec.edm(...)"
            )
    ends = {"sigma_min": values["sigma_min"], "sigma_max": values["sigma_max"]}
    karras = values["sigma_schedule"] == "karras"
    grid = KarrasGrid(rho=values["rho"], **ends) if karras else ExponentialGrid(**ends)
    schedule = TrigFlowSchedule(steps=values["num_train_timesteps"], sigma_data=1.0)
    return {
        "spec_fields": _fields(values, schedule, _prediction(values), grid),
        "time_kind": "unit",
    }


def _ipndm(values: dict[str, Any]) -> dict[str, Any]:
    """Dance Diffusion's: v over angles, fed 2 t / pi. The grid is the sampler's own.

    Raises:
        ExportError: A table of sigmas, which stands for a grid of one number of steps.
    """
    if values["trained_betas"] is not None:
        raise ExportError(
            "the scheduler has trained_betas, which IPNDMScheduler takes for the sigmas of one "
            "run; allowed: None. Set it to null in scheduler_config.json"
        )
    schedule = TrigFlowSchedule(steps=values["num_train_timesteps"], sigma_data=1.0)
    fields = _fields({"sigma_data": 1.0}, schedule, "v_prediction", "trailing")
    return {"spec_fields": fields, "time_kind": "unit"}


def _prediction(values: dict[str, Any]) -> str:
    """What a preconditioned network gives: F, or with the sign turned -F.

    Raises:
        ExportError: Neither.
    """
    predictions = {"epsilon": "edm", "v_prediction": "edm_v"}
    if values["prediction_type"] not in predictions:
        raise ExportError(
            f"the scheduler has prediction_type={values['prediction_type']!r}; allowed: "
            f"{', '.join(predictions)}"
        )
    return predictions[values["prediction_type"]]


def _fields(
    values: dict[str, Any],
    schedule: Schedule,
    prediction: str,
    grid: str | Grid,
    final: str = "clean",
) -> dict[str, Any]:
    return {
        "schedule": schedule,
        "prediction": prediction,
        "sigma_data": values["sigma_data"],
        "value_range": None,
        "clip": False,
        "grid": grid,
        "grid_offset": 0,
        "final": final,
    }


LEVELS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "EDMEulerScheduler": _edm,
    "EDMDPMSolverMultistepScheduler": _edm,
    "CMStochasticIterativeScheduler": _consistency,
    "SCMScheduler": _scm,
    "IPNDMScheduler": _ipndm,
    COSINE: _cosine,
}
"""What each of them is as arguments of ``Sampling``."""
