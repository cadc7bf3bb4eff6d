"""The samplers, by name. Each is a few lines of textbook algebra over a ``Run``."""

from __future__ import annotations

import dataclasses
from typing import Any

from revstep.engine.samplers.base import BaseSampler, FunctionSampler
from revstep.engine.samplers.ddim import DDIM
from revstep.engine.samplers.ddpm import DDPM
from revstep.engine.samplers.dpm_solver import DPMSolverPP2M
from revstep.engine.trace import Sampler

__all__ = [
    "DDIM",
    "DDPM",
    "SAMPLERS",
    "BaseSampler",
    "DPMSolverPP2M",
    "make_sampler",
    "resolve_sampler",
]

SAMPLERS: dict[str, type[BaseSampler]] = {
    "ddim": DDIM,
    "ddpm": DDPM,
    "dpmpp_2m": DPMSolverPP2M,
}


def make_sampler(name: str, **options: Any) -> BaseSampler:
    """The sampler of that name with those options (``make_sampler("ddim", eta=0.5)``).

    Raises:
        ValueError: An unknown name or option, or a value that is not allowed.
    """
    if name not in SAMPLERS:
        raise ValueError(f"unknown sampler {name!r}; allowed: {', '.join(SAMPLERS)}")
    cls = SAMPLERS[name]
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    if unknown := set(options) - set(known):
        raise ValueError(
            f"sampler {name!r} has no option {', '.join(sorted(unknown))}; "
            f"allowed: {', '.join(known) or 'none'}"
        )
    return cls(**options)


def resolve_sampler(sampler: str | Sampler) -> BaseSampler:
    """A name, a sampler, or a plain function of a ``Run``, as a sampler."""
    if isinstance(sampler, str):
        return make_sampler(sampler)
    if isinstance(sampler, BaseSampler):
        return sampler
    if isinstance(sampler, type) or not callable(sampler):
        raise TypeError(
            f"sampler must be a name ({', '.join(SAMPLERS)}), a sampler object such as DDIM(), or "
            f"a function of a Run; got {sampler!r}"
        )
    return FunctionSampler(sampler)
