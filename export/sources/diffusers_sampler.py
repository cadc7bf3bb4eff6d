"""The sampler that a diffusers scheduler's config means, with its options."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from revstep.engine.errors import ExportError
from revstep.engine.program.samplers import (
    DDIM,
    DDPM,
    DEIS,
    DPM2,
    IPNDM,
    LCM,
    LMS,
    PNDM,
    TCD,
    BaseSampler,
    CogVideoXDPM,
    Consistency,
    DPM2Ancestral,
    DPMSolverPP1S,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    Euler,
    EulerAncestral,
    FlowEulerAncestral,
    FlowHeun,
    FlowMap,
    Heun,
    SASolver,
    UniPC,
)

KEYS = {
    "solver_order", "algorithm_type", "solver_type", "lower_order_final", "euler_at_final",
    "skip_prk_steps", "predict_x0", "disable_corrector", "solver_p", "stochastic_sampling",
    "predictor_order", "corrector_order", "tau_func", "original_inference_steps",
    "timestep_scaling", "eta", "s_noise",
}  # fmt: skip
"""The keys that are read here."""

PLUS_PLUS = ("dpmsolver++", "deis")  # diffusers' own change of what it doesn't have
MIDPOINT = ("midpoint", "logrho", "bh1", "bh2")
COSINE = "squaredcos_cap_v2"
BH2 = ("bh2", "midpoint", "heun", "logrho")

logger = logging.getLogger(__name__)


class _NoCounterpartError(Exception):
    """The reason why no sampler here is the config's."""


def scheduler_sampler(name: str, values: dict[str, Any]) -> BaseSampler | None:
    """The sampler that ``engine.sample(sampler=..., compat="diffusers")`` takes.

    None, with a warning that names the key and what to sample with, where there is no such sampler
    here: everything else of the config is in the spec all the same.

    Raises:
        ExportError: A value that diffusers does not take either.
    """
    try:
        return SAMPLERS[name](values)
    except _NoCounterpartError as reason:
        logger.warning(
            "%s has %s, for which there is no sampler here: a run can't be that scheduler's. Name "
            "another when sampling, such as sampler='dpmpp_2m' or 'unipc'", name, reason,
        )  # fmt: skip
        return None


def _ddpm(values: dict[str, Any]) -> BaseSampler:
    kind = str(values.get("variance_type", "fixed_small"))
    kinds = {
        "fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large",
        "fixed_large_log": "large", "learned_range": "learned",
    }  # fmt: skip
    if kind not in kinds:
        raise ExportError(f"the scheduler has variance_type={kind!r}; allowed: {', '.join(kinds)}")
    if kind == "fixed_large_log":
        logger.warning(
            "variance_type='fixed_large_log' is read as 'fixed_large': diffusers takes the square "
            "root of the logarithm, which is NaN"
        )
    return DDPM(kinds[kind])


def _pndm(values: dict[str, Any]) -> BaseSampler:
    if not values["skip_prk_steps"]:
        raise _NoCounterpartError("skip_prk_steps=False (a start by Runge and Kutta's method)")
    return PNDM()


def _multistep(values: dict[str, Any]) -> BaseSampler:
    order, options = _dpm_options(values)
    options["euler_at_final"] = bool(values.get("euler_at_final", False))
    if order == 3 and options["eta"]:
        logger.warning(
            "solver_order=3 with algorithm_type=%r: that step of diffusers has a wrong sign, which "
            "dpmpp_3m_sde has not",
            values["algorithm_type"],
        )
    return {1: DPMSolverPP1S, 2: DPMSolverPP2M, 3: DPMSolverPP3M}[order](**options)


def _singlestep(values: dict[str, Any]) -> BaseSampler:
    order, options = _dpm_options(values)
    if order == 3:
        raise _NoCounterpartError("solver_order=3 (a singlestep solver of third order)")
    if order == 1 and values["use_karras_sigmas"] and values["beta_schedule"] == COSINE:
        raise _NoCounterpartError(f"solver_order=1 over Karras' sigmas of {COSINE} betas")
    return DPMSolverPP2S(**options) if order == 2 else DPMSolverPP1S(**options)


def _dpm_options(values: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    order, kind = values["solver_order"], values["algorithm_type"]
    if order not in (1, 2, 3):
        raise ExportError(f"the scheduler has solver_order={order!r}; allowed: 1, 2, 3")
    of_x0 = kind in (*PLUS_PLUS, "sde-dpmsolver++")
    if not of_x0 and kind not in ("dpmsolver", "sde-dpmsolver"):
        raise ExportError(
            f"the scheduler has algorithm_type={kind!r}; allowed: dpmsolver++, sde-dpmsolver++"
        )
    if not of_x0 and order > 1:  # of first order the solvers for eps and x0 are one
        raise _NoCounterpartError(
            f"algorithm_type={kind!r} (the solver for eps; the one for x0 is {kind + '++'!r})"
        )
    solver = values["solver_type"]
    if solver not in (*MIDPOINT, "heun"):
        raise ExportError(f"the scheduler has solver_type={solver!r}; allowed: midpoint, heun")
    return order, {
        "eta": 1.0 if str(kind).startswith("sde") else 0.0,
        "second": "heun" if solver == "heun" else "midpoint",
        "lower_order_final": bool(values["lower_order_final"]),
    }


def _unipc(values: dict[str, Any]) -> BaseSampler:
    order, solver = values["solver_order"], values["solver_type"]
    if not values["predict_x0"]:
        raise _NoCounterpartError("predict_x0=False (the solver for eps)")
    if values["solver_p"] is not None:
        raise _NoCounterpartError("solver_p (another scheduler as predictor)")
    if order not in (1, 2, 3):
        raise _NoCounterpartError(f"solver_order={order!r}; there are 1, 2 and 3")
    if solver not in (*BH2, "bh1"):
        raise ExportError(f"the scheduler has solver_type={solver!r}; allowed: bh1, bh2")
    return UniPC(
        order=order,
        b="bh1" if solver == "bh1" else "bh2",
        lower_order_final=bool(values["lower_order_final"]),
        disable_corrector=tuple(values["disable_corrector"] or ()),
    )


def _deis(values: dict[str, Any]) -> BaseSampler:
    order = values["solver_order"]
    if order not in (1, 2, 3):
        raise _NoCounterpartError(f"solver_order={order!r}; there are 1, 2 and 3")
    return DEIS(order, bool(values["lower_order_final"]))


def _sa_solver(values: dict[str, Any]) -> BaseSampler:
    predictor, corrector = values["predictor_order"], values["corrector_order"]
    if values["algorithm_type"] != "data_prediction":
        raise _NoCounterpartError(
            f"algorithm_type={values['algorithm_type']!r} (the solver for eps)"
        )
    if values["tau_func"] is not None:
        raise _NoCounterpartError("tau_func (a function; SASolver has tau=, low= and high=)")
    if predictor not in (1, 2, 3) or corrector not in (1, 2, 3, 4):
        raise _NoCounterpartError(
            f"predictor_order={predictor!r}, corrector_order={corrector!r}; there are 1 to 3 and "
            "1 to 4"
        )
    return SASolver(predictor, corrector, lower_order_final=bool(values["lower_order_final"]))


def _cogvideox_dpm(values: dict[str, Any]) -> BaseSampler:
    if not values["set_alpha_to_one"]:
        raise _NoCounterpartError("set_alpha_to_one=False (an end of first order at index 0)")
    return CogVideoXDPM()


def _cosine(values: dict[str, Any]) -> BaseSampler:
    kind = {1: DPMSolverPP1S, 2: DPMSolverPP2M}.get(values["solver_order"])
    if kind is None:
        raise _NoCounterpartError(f"solver_order={values['solver_order']!r}; there are 1 and 2")
    return kind(
        eta=1.0,
        second="heun" if values["solver_type"] == "heun" else "midpoint",
        lower_order_final=bool(values["lower_order_final"]),
        euler_at_final=bool(values["euler_at_final"]),
    )


def _tcd(values: dict[str, Any]) -> BaseSampler:
    return TCD(original_steps=values["original_inference_steps"])


def _flow(values: dict[str, Any]) -> BaseSampler:
    return Consistency(sigma_min=0.0) if values["stochastic_sampling"] else Euler()


def _lcm(values: dict[str, Any]) -> BaseSampler:
    return LCM(values["original_inference_steps"], values["timestep_scaling"])


def _consistency(values: dict[str, Any]) -> BaseSampler:
    return Consistency(values["sigma_min"])


def _always(sampler: BaseSampler) -> Callable[[dict[str, Any]], BaseSampler]:
    return lambda values: sampler


SAMPLERS: dict[str, Callable[[dict[str, Any]], BaseSampler]] = {
    "DDIMScheduler": _always(DDIM()),
    "DDIMParallelScheduler": _always(DDIM()),
    "DDPMScheduler": _ddpm,
    "DDPMParallelScheduler": _ddpm,
    "PNDMScheduler": _pndm,
    "DPMSolverMultistepScheduler": _multistep,
    "DPMSolverSinglestepScheduler": _singlestep,
    "UniPCMultistepScheduler": _unipc,
    "DEISMultistepScheduler": _deis,
    "EulerDiscreteScheduler": _always(Euler()),
    "EulerAncestralDiscreteScheduler": _always(EulerAncestral()),
    "HeunDiscreteScheduler": _always(Heun()),
    "LMSDiscreteScheduler": _always(LMS(order=4)),
    "KDPM2DiscreteScheduler": _always(DPM2()),
    "KDPM2AncestralDiscreteScheduler": _always(DPM2Ancestral()),
    "FlowMatchEulerDiscreteScheduler": _flow,
    "FlowMatchHeunDiscreteScheduler": _always(FlowHeun()),
    "LCMScheduler": _lcm,
    "CMStochasticIterativeScheduler": _consistency,
    "EDMEulerScheduler": _always(Euler()),
    "EDMDPMSolverMultistepScheduler": _multistep,
    "IPNDMScheduler": _always(IPNDM()),
    "SASolverScheduler": _sa_solver,
    "TCDScheduler": _tcd,
    "UnCLIPScheduler": _ddpm,
    "CogVideoXDDIMScheduler": _always(DDIM()),
    "CogVideoXDPMScheduler": _cogvideox_dpm,
    "FlowMatchLCMScheduler": _always(Consistency(sigma_min=0.0)),
    "FlowMapEulerDiscreteScheduler": _always(FlowMap()),
    "LTXEulerAncestralRFScheduler": lambda v: FlowEulerAncestral(v["eta"], v["s_noise"]),
    "SCMScheduler": _always(Consistency(sigma_min=0.0)),
    "CosineDPMSolverMultistepScheduler": _cosine,
}
