r"""The samplers, by name. Each is a few lines of textbook algebra over a ``Run``.

Notation of all files here: a step goes from ``now``, t in formulas, to the less noisy ``then``, s.

.. math::
    x = \alpha x_0 + \sigma \epsilon, \quad y = x / \alpha, \quad \lambda = \log(\alpha / \sigma),
    \quad r = \alpha_t / \alpha_s, \quad \beta = \sigma_t^2 - r^2 \sigma_s^2

x is the state, beta the variance of q(x_t | x_s), and z standard normal noise. Where a paper has
other letters, the docstring says so. docs/tutorial.md derives the first of them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from revstep.engine.checks import check_one_of, wrong_type
from revstep.engine.errors import ProgramError
from revstep.engine.program.reductions import NO_ROWS, refuse_unknown
from revstep.engine.program.samplers.base import BaseSampler, FunctionSampler, sampler
from revstep.engine.program.samplers.consistency import LCM, TCD, Consistency
from revstep.engine.program.samplers.ddim import DDIM
from revstep.engine.program.samplers.ddpm import DDPM
from revstep.engine.program.samplers.deis import DEIS
from revstep.engine.program.samplers.dpm2 import DPM2, DPM2Ancestral
from revstep.engine.program.samplers.dpm_solver import (
    CogVideoXDPM,
    DPMSolverPP1S,
    DPMSolverPP1SSDE,
    DPMSolverPP2M,
    DPMSolverPP2MSDE,
    DPMSolverPP2S,
    DPMSolverPP2SSDE,
    DPMSolverPP3M,
    DPMSolverPP3MSDE,
)
from revstep.engine.program.samplers.euler import Euler, EulerAncestral
from revstep.engine.program.samplers.flow import FlowEuler, FlowEulerAncestral, FlowHeun
from revstep.engine.program.samplers.flow_map import FlowMap
from revstep.engine.program.samplers.heun import EDM, Heun
from revstep.engine.program.samplers.langevin import Langevin, PredictorCorrector, ReverseSDE
from revstep.engine.program.samplers.linear_multistep import IPNDM, LMS, PNDM
from revstep.engine.program.samplers.repaint import RePaint
from revstep.engine.program.samplers.sa_solver import SASolver
from revstep.engine.program.samplers.unipc import UniPC
from revstep.engine.program.trace import Sampler
from revstep.engine.spec.sampler_choice import SamplerChoice

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "DPM2",
    "EDM",
    "IPNDM",
    "LCM",
    "LMS",
    "PNDM",
    "SAMPLERS",
    "TCD",
    "BaseSampler",
    "CogVideoXDPM",
    "Consistency",
    "DPM2Ancestral",
    "DPMSolverPP1S",
    "DPMSolverPP1SSDE",
    "DPMSolverPP2M",
    "DPMSolverPP2MSDE",
    "DPMSolverPP2S",
    "DPMSolverPP2SSDE",
    "DPMSolverPP3M",
    "DPMSolverPP3MSDE",
    "Euler",
    "EulerAncestral",
    "FlowEuler",
    "FlowEulerAncestral",
    "FlowHeun",
    "FlowMap",
    "FunctionSampler",
    "Heun",
    "Langevin",
    "PredictorCorrector",
    "RePaint",
    "ReverseSDE",
    "SASolver",
    "UniPC",
    "make_sampler",
    "sampler",
]

SAMPLERS: dict[str, type[BaseSampler]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "euler": Euler,
    "euler_ancestral": EulerAncestral,
    "heun": Heun,
    "edm": EDM,
    "dpm2": DPM2,
    "dpm2_ancestral": DPM2Ancestral,
    "dpmpp_1s": DPMSolverPP1S,
    "dpmpp_1s_sde": DPMSolverPP1SSDE,
    "dpmpp_2s": DPMSolverPP2S,
    "dpmpp_2s_sde": DPMSolverPP2SSDE,
    "dpmpp_2m": DPMSolverPP2M,
    "dpmpp_2m_sde": DPMSolverPP2MSDE,
    "dpmpp_3m": DPMSolverPP3M,
    "dpmpp_3m_sde": DPMSolverPP3MSDE,
    "cogvideox_dpm": CogVideoXDPM,
    "unipc": UniPC,
    "deis": DEIS,
    "sa_solver": SASolver,
    "lms": LMS,
    "ipndm": IPNDM,
    "pndm": PNDM,
    "flow_euler": FlowEuler,
    "flow_heun": FlowHeun,
    "flow_euler_ancestral": FlowEulerAncestral,
    "reverse_sde": ReverseSDE,
    "predictor_corrector": PredictorCorrector,
    "langevin": Langevin,
    "lcm": LCM,
    "tcd": TCD,
    "consistency": Consistency,
    "repaint": RePaint,
    "flow_map": FlowMap,
}


def make_sampler(name: str, **options: Any) -> BaseSampler:
    """The sampler of that name with those options (``make_sampler("ddim", eta=0.5)``).

    Raises:
        ValueError: An unknown name or option, or a value that is not allowed.
        ProgramError: A sampler or an option that no table of numbers can hold.
    """
    if isinstance(name, str) and (reason := NO_ROWS.get(name)):
        raise ProgramError(f"sampler {name!r} is refused: {reason}")
    check_one_of(name, "sampler", SAMPLERS)
    cls = SAMPLERS[name]
    if not options:
        return cls()
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    refuse_unknown(f"sampler {name!r} has no option", options, known)
    plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()}
    return cls(**{k: v for k, v in plain.items() if k in known})  # others are off


def resolve_sampler(sampler: str | Sampler | SamplerChoice) -> BaseSampler:
    """A name, a sampler, a choice, or a plain function of a ``Run``, as a sampler."""
    if isinstance(sampler, str):
        return make_sampler(sampler)
    if isinstance(sampler, SamplerChoice):
        return make_sampler(sampler.name, **sampler.options)
    if isinstance(sampler, BaseSampler):
        return sampler
    if isinstance(sampler, type) or not callable(sampler):
        allowed = f"a name ({', '.join(SAMPLERS)}), a sampler object such as DDIM(), or a function"
        raise wrong_type(sampler, "sampler", allowed)
    return FunctionSampler(sampler)
