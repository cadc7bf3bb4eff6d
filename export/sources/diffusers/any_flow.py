"""``AnyFlowTransformer3DModel``: text to video by jumps, a network of two times."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from revstep.engine.spec.denoiser import Condition
from revstep.engine.spec.second_time import SecondTime
from revstep.export.sources.diffusers.adapter import Given
from revstep.export.sources.diffusers.wan import Wan

if TYPE_CHECKING:
    import torch

    from revstep.export.sources.diffusers_schedule import Sampling


class AnyFlow(Wan):
    """States (channels, frames, rows, columns), as Wan's; the times are one for all frames."""

    name = "AnyFlowTransformer3DModel"

    def check(self, given: Given) -> None:
        """Refuses networks that take a picture, too."""
        given.refuse("image_dim")

    def sampling(self, config: dict[str, Any], given: Given) -> Sampling:
        """Of an average velocity, whatever flow scheduler is beside it."""
        found = super().sampling(config, given)
        own = {"prediction": "average_velocity", "second_time": SecondTime(kind="thousand")}
        return dataclasses.replace(found, spec_fields={**found.spec_fields, **own})

    def module(
        self, network: Any, given: Given, conditions: tuple[Condition, ...]
    ) -> torch.nn.Module:
        """The network on one size of videos."""
        from revstep.export.sources.diffusers.modules import AnyFlowModule

        return AnyFlowModule(network, [c.name for c in conditions], self.size(given))
