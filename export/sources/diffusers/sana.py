"""``SanaTransformer2DModel``: SANA, and SANA-Sprint's few steps over TrigFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition
from revstep.export.sources.diffusers.adapter import Adapter, Given

if TYPE_CHECKING:
    import torch

    from revstep.export.sources.diffusers_schedule import Sampling

GUIDANCE = 4.5  # of the pipeline


class Sana(Adapter):
    """A transformer of linear attention; Sprint's is fed its guidance, and TrigFlow's angle."""

    name = "SanaTransformer2DModel"
    length = 300

    def check(self, given: Given) -> None:
        """Refuses times of another scale."""
        given.refuse("timestep_scale", allowed=1.0)

    def sampling(self, config: dict[str, Any], given: Given) -> Sampling:
        """The scheduler's config, which fits the network or not."""
        found = super().sampling(config, given)
        sprint = bool(given.values["guidance_embeds"])
        if sprint != (found.time_kind == "angle"):
            raise ExportError(
                f"{given.where} has guidance_embeds={sprint}, which goes with "
                f"{'SCMScheduler' if sprint else 'schedulers of flows'}; the scheduler is "
                f"{config.get('_class_name')!r}"
            )
        return found

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """The text, its mask, and Sprint's guidance."""
        text = self.text(given, given.values["caption_channels"])
        found = (text, self.mask(text))
        if given.values["guidance_embeds"]:
            return (*found, Condition(name="guidance", null=GUIDANCE))
        return found

    def module(
        self, network: Any, given: Given, conditions: tuple[Condition, ...]
    ) -> torch.nn.Module:
        """The network; Sprint's between TrigFlow and the flow that it was trained in."""
        if not given.values["guidance_embeds"]:
            return super().module(network, given, conditions)
        from revstep.export.sources.diffusers.modules import SprintModule

        names = [c.name for c in conditions]
        return SprintModule(network, names, given.values["guidance_embeds_scale"])
