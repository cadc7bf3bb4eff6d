"""``FluxTransformer2DModel``: Flux, guided by a number that it is fed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition
from revstep.engine.spec.grids import ShiftedGrid
from revstep.export.sources.diffusers.adapter import FACTORY, Adapter, Given

if TYPE_CHECKING:
    import torch

    from revstep.export.sources.diffusers_schedule import Sampling

LINSPACE, TRAILING = "linspace", "trailing"
SIZE = (128, 128)  # of the pipeline: the config has none
GUIDANCE = 3.5  # of the pipeline


class Flux(Adapter):
    """The state is the latents as a VAE has them, (C, H, W); the network sees patches of 2 x 2."""

    name = "FluxTransformer2DModel"
    length = 512

    def check(self, given: Given) -> None:
        """Refuses patches inside of the network."""
        given.refuse("patch_size", allowed=1)

    def channels(self, given: Given) -> tuple[int, int]:
        """Those of the latents, a quarter of a patch's."""
        inner, outer = super().channels(given)
        if inner % 4 or outer % 4:
            raise ExportError(
                f"{given.where}: {inner} channels in and {outer} out are no patches of 2 x 2; "
                f"{FACTORY}"
            )
        return inner // 4, outer // 4

    def size(self, given: Given) -> tuple[int, ...]:
        """1024 x 1024 pixels where nobody says."""
        found = SIZE if given.size is None else given.size
        if found[0] % 2 or found[1] % 2:
            raise ExportError(
                f"{self.name} takes even numbers of rows and columns of latents; got a size of "
                f"{found[0]}x{found[1]}"
            )
        return found

    def tokens(self, given: Given) -> int:
        """Patches of 2 x 2."""
        rows, columns = self.size(given)
        return rows * columns // 4

    def sampling(self, config: dict[str, Any], given: Given) -> Sampling:
        """The pipeline gives the scheduler times of its own to shift: 1, 1 - 1/N, ..., 1/N."""
        found = super().sampling(config, given)
        grid = found.spec_fields["grid"]
        if isinstance(grid, ShiftedGrid):
            grid = dataclasses.replace(grid, grid=TRAILING)
        elif grid == LINSPACE:
            grid = TRAILING
        return dataclasses.replace(found, spec_fields={**found.spec_fields, "grid": grid})

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """The text, the pooled text, and the guidance of a distilled network."""
        found = (
            self.text(given, given.values["joint_attention_dim"]),
            Condition(name="pooled_projections", shape=(given.values["pooled_projection_dim"],)),
        )
        if given.values["guidance_embeds"]:
            return (*found, Condition(name="guidance", null=GUIDANCE))
        return found

    def module(
        self, network: Any, given: Given, conditions: tuple[Condition, ...]
    ) -> torch.nn.Module:
        """The network between packing and unpacking."""
        from revstep.export.sources.diffusers.modules import FluxModule

        rows, columns = self.size(given)
        names = [c.name for c in conditions]
        return FluxModule(network, names, (rows, columns), conditions[0].shape[0])
