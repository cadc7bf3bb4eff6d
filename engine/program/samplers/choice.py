"""The sampler of a ``SamplerChoice``, and the choice that a sampler is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from revstep.engine.program.samplers import SAMPLERS, BaseSampler, make_sampler
from revstep.engine.spec.sampler_choice import SamplerChoice

DEFAULT = SamplerChoice("ddim")
"""What runs where neither a caller nor the spec names a sampler."""


def choice_of(sampler: BaseSampler, compat: str | None = None) -> SamplerChoice:
    """The choice of one of revstep's own samplers.

    Raises:
        ValueError: It is none of those.
    """
    for name, kind in SAMPLERS.items():
        if type(sampler) is kind:
            default = kind()
            options = {
                field.name: value
                for field in dataclasses.fields(kind)  # type: ignore[arg-type]
                if (value := getattr(sampler, field.name)) != getattr(default, field.name)
            }
            return SamplerChoice(name, options, compat)
    raise ValueError(f"{sampler!r} is no sampler of revstep.samplers.SAMPLERS, and can't be chosen")


def chosen_sampler(
    name: str | None, options: Mapping[str, Any], choice: SamplerChoice | None
) -> SamplerChoice:
    """What runs for a name and options, either of which may be left out.

    Options without a name change those of the spec's own sampler.

    Args:
        name: A sampler's name, or None.
        options: Its options.
        choice: The spec's.

    Raises:
        ValueError: As ``make_sampler``.
    """
    own = SamplerChoice(name) if name is not None else choice or DEFAULT
    merged = {**own.options, **options}
    make_sampler(own.name, **merged)  # before it is given to anything
    return dataclasses.replace(own, options=merged)
