"""The networks beside the denoiser, checked, with what they give: encoders, a picture encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.checks import scan_weights
from revstep.export.module.part import Part, check_part, encoder_part, picture_part
from revstep.export.module.unsupported import check_weight_types, naming_nested, no_autocast
from revstep.export.parity.bounds import Bounds
from revstep.export.parity.parts import make_part_reference
from revstep.export.parity.reference import float32_copy
from revstep.export.sources.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True, slots=True)
class Other:
    """A network beside the denoiser.

    Attributes:
        part: What it takes and gives.
        name: The encoder's name; None: it is the picture encoder.
        copy: The float32 copy that its graph is made of.
        arrays: Its reference.
        limit: The bounds of its parity.
    """

    part: Part
    name: str | None
    copy: torch.nn.Module
    arrays: dict[str, NDArray[Any]]
    limit: Bounds


def checked_parts(given: Checkpoint) -> list[Other]:
    """The encoders and the picture encoder of a checkpoint, if it has any.

    Raises:
        ExportError: One doesn't fit the spec.
    """
    spec = given.spec
    found = [_checked(given.encoders[e.name], encoder_part(e, spec), e.name) for e in spec.encoders]
    if given.picture_encoder is not None:
        found.append(_checked(given.picture_encoder, picture_part(spec), None))
    return found


def with_encoded_examples(others: Sequence[Other], spec: DenoiserSpec) -> DenoiserSpec:
    """The spec, its conditions' examples what the encoders give: what the denoiser is fed."""
    made = {
        name: other.arrays[f"{other.part.key}.out.{name}"]
        for other in others
        if other.name is not None
        for name, _, _ in other.part.outputs
    }
    conditions = tuple(
        dataclasses.replace(c, example=made[c.name]) if c.name in made else c
        for c in spec.conditions
    )
    return dataclasses.replace(spec, conditions=conditions)


def _checked(module: torch.nn.Module, part: Part, name: str | None) -> Other:
    check_weight_types(module, part.what)
    scan_weights(module)
    copy = float32_copy(module)
    with no_autocast(torch.device("cpu")), naming_nested(copy):
        check_part(copy, part)
    arrays, limit = make_part_reference(module, copy, part)
    return Other(part, name, copy, arrays, limit)
