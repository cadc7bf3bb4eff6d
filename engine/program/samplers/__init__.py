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
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from revstep.engine import later
from revstep.engine.checks import check_one_of, wrong_type
from revstep.engine.errors import ProgramError
from revstep.engine.program.reductions import NO_ROWS, refuse_unknown
from revstep.engine.program.samplers.base import BaseSampler, FunctionSampler, sampler
from revstep.engine.program.trace import Sampler
from revstep.engine.spec.sampler_choice import SamplerChoice

if TYPE_CHECKING:  # the same names as FILES
    from revstep.engine.program.samplers.consistency import LCM as LCM
    from revstep.engine.program.samplers.consistency import TCD as TCD
    from revstep.engine.program.samplers.consistency import Consistency as Consistency
    from revstep.engine.program.samplers.ddim import DDIM as DDIM
    from revstep.engine.program.samplers.ddpm import DDPM as DDPM
    from revstep.engine.program.samplers.deis import DEIS as DEIS
    from revstep.engine.program.samplers.dpm2 import DPM2 as DPM2
    from revstep.engine.program.samplers.dpm2 import DPM2Ancestral as DPM2Ancestral
    from revstep.engine.program.samplers.dpm_solver import CogVideoXDPM as CogVideoXDPM
    from revstep.engine.program.samplers.dpm_solver import DPMSolverPP1S as DPMSolverPP1S
    from revstep.engine.program.samplers.dpm_solver import DPMSolverPP1SSDE as DPMSolverPP1SSDE
    from revstep.engine.program.samplers.dpm_solver import DPMSolverPP2M as DPMSolverPP2M
    from revstep.engine.program.samplers.dpm_solver import DPMSolverPP2MSDE as DPMSolverPP2MSDE
    from revstep.engine.program.samplers.dpm_solver import DPMSolverPP2S as DPMSolverPP2S
    from revstep.engine.program.samplers.dpm_solver import DPMSolverPP2SSDE as DPMSolverPP2SSDE
    from revstep.engine.program.samplers.dpm_solver import DPMSolverPP3M as DPMSolverPP3M
    from revstep.engine.program.samplers.dpm_solver import DPMSolverPP3MSDE as DPMSolverPP3MSDE
    from revstep.engine.program.samplers.euler import Euler as Euler
    from revstep.engine.program.samplers.euler import EulerAncestral as EulerAncestral
    from revstep.engine.program.samplers.flow import FlowEuler as FlowEuler
    from revstep.engine.program.samplers.flow import FlowEulerAncestral as FlowEulerAncestral
    from revstep.engine.program.samplers.flow import FlowHeun as FlowHeun
    from revstep.engine.program.samplers.flow_map import FlowMap as FlowMap
    from revstep.engine.program.samplers.heun import EDM as EDM
    from revstep.engine.program.samplers.heun import Heun as Heun
    from revstep.engine.program.samplers.langevin import Langevin as Langevin
    from revstep.engine.program.samplers.langevin import PredictorCorrector as PredictorCorrector
    from revstep.engine.program.samplers.langevin import ReverseSDE as ReverseSDE
    from revstep.engine.program.samplers.linear_multistep import IPNDM as IPNDM
    from revstep.engine.program.samplers.linear_multistep import LMS as LMS
    from revstep.engine.program.samplers.linear_multistep import PNDM as PNDM
    from revstep.engine.program.samplers.named import SAMPLERS as SAMPLERS
    from revstep.engine.program.samplers.repaint import RePaint as RePaint
    from revstep.engine.program.samplers.sa_solver import SASolver as SASolver
    from revstep.engine.program.samplers.unipc import UniPC as UniPC

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

FILES = {  # imported when first asked for: who draws with one sampler needs no other
    "CogVideoXDPM": "dpm_solver",
    "Consistency": "consistency",
    "DDIM": "ddim",
    "DDPM": "ddpm",
    "DEIS": "deis",
    "DPM2": "dpm2",
    "DPM2Ancestral": "dpm2",
    "DPMSolverPP1S": "dpm_solver",
    "DPMSolverPP1SSDE": "dpm_solver",
    "DPMSolverPP2M": "dpm_solver",
    "DPMSolverPP2MSDE": "dpm_solver",
    "DPMSolverPP2S": "dpm_solver",
    "DPMSolverPP2SSDE": "dpm_solver",
    "DPMSolverPP3M": "dpm_solver",
    "DPMSolverPP3MSDE": "dpm_solver",
    "EDM": "heun",
    "Euler": "euler",
    "EulerAncestral": "euler",
    "FlowEuler": "flow",
    "FlowEulerAncestral": "flow",
    "FlowHeun": "flow",
    "FlowMap": "flow_map",
    "Heun": "heun",
    "IPNDM": "linear_multistep",
    "Langevin": "langevin",
    "LCM": "consistency",
    "LMS": "linear_multistep",
    "PNDM": "linear_multistep",
    "PredictorCorrector": "langevin",
    "RePaint": "repaint",
    "ReverseSDE": "langevin",
    "SAMPLERS": "named",
    "SASolver": "sa_solver",
    "TCD": "consistency",
    "UniPC": "unipc",
}

NAMES = {  # of samplers, and their classes
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "euler": "Euler",
    "euler_ancestral": "EulerAncestral",
    "heun": "Heun",
    "edm": "EDM",
    "dpm2": "DPM2",
    "dpm2_ancestral": "DPM2Ancestral",
    "dpmpp_1s": "DPMSolverPP1S",
    "dpmpp_1s_sde": "DPMSolverPP1SSDE",
    "dpmpp_2s": "DPMSolverPP2S",
    "dpmpp_2s_sde": "DPMSolverPP2SSDE",
    "dpmpp_2m": "DPMSolverPP2M",
    "dpmpp_2m_sde": "DPMSolverPP2MSDE",
    "dpmpp_3m": "DPMSolverPP3M",
    "dpmpp_3m_sde": "DPMSolverPP3MSDE",
    "cogvideox_dpm": "CogVideoXDPM",
    "unipc": "UniPC",
    "deis": "DEIS",
    "sa_solver": "SASolver",
    "lms": "LMS",
    "ipndm": "IPNDM",
    "pndm": "PNDM",
    "flow_euler": "FlowEuler",
    "flow_heun": "FlowHeun",
    "flow_euler_ancestral": "FlowEulerAncestral",
    "reverse_sde": "ReverseSDE",
    "predictor_corrector": "PredictorCorrector",
    "langevin": "Langevin",
    "lcm": "LCM",
    "tcd": "TCD",
    "consistency": "Consistency",
    "repaint": "RePaint",
    "flow_map": "FlowMap",
}

if not TYPE_CHECKING:
    __getattr__ = later.names(__name__, FILES)


def sampler_class(name: str) -> type[BaseSampler]:
    """The class of that name in ``SAMPLERS``."""
    if (loaded := _loaded()) is not None:
        return loaded[name]
    cls: type[BaseSampler] = getattr(sys.modules[__name__], NAMES[name])
    return cls


def sampler_names() -> tuple[str, ...]:
    """The names in ``SAMPLERS``."""
    loaded = _loaded()
    return tuple(NAMES if loaded is None else loaded)


def _loaded() -> dict[str, type[BaseSampler]] | None:
    """``SAMPLERS``, where anyone asked for it: they may have added to it."""
    return globals().get("SAMPLERS")


def is_named(sampler: object) -> bool:
    """Whether its class is one that ``NAMES`` names, or derived from one."""
    return any(
        cls.__module__ == f"{__name__}.{FILES.get(cls.__name__)}" and cls.__name__ in NAMES.values()
        for cls in type(sampler).__mro__
    )


def make_sampler(name: str, **options: Any) -> BaseSampler:
    """The sampler of that name with those options (``make_sampler("ddim", eta=0.5)``).

    Raises:
        ValueError: An unknown name or option, or a value that is not allowed.
        ProgramError: A sampler or an option that no table of numbers can hold.
    """
    if isinstance(name, str) and (reason := NO_ROWS.get(name)):
        raise ProgramError(f"sampler {name!r} is refused: {reason}")
    check_one_of(name, "sampler", sampler_names())
    cls = sampler_class(name)
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
        allowed = (
            f"a name ({', '.join(sampler_names())}), a sampler object such as DDIM(), or a function"
        )
        raise wrong_type(sampler, "sampler", allowed)
    return FunctionSampler(sampler)
