"""``UNet2DConditionModel``: Stable Diffusion 1 and 2, SDXL, and latent consistency models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition
from revstep.export.sources.diffusers.adapter import FACTORY, Adapter, Given
from revstep.export.sources.diffusers.class_labels import class_labels

if TYPE_CHECKING:
    import torch

LCM_GUIDANCE = 8.5  # of the latent consistency pipeline
AESTHETIC = 2.5  # the negative score of SDXL's refiner


class UNet2DCondition(Adapter):
    """A U-Net that attends to a text's embeddings."""

    name = "UNet2DConditionModel"
    state = "sample"
    added = ("text_embeds", "time_ids")

    def check(self, given: Given) -> None:
        """Refuses image prompts, boxes, and times or classes of another kind."""
        given.refuse("time_embedding_type", allowed="positional")
        given.refuse("attention_type", allowed="default")
        given.refuse("class_embed_type")
        for name, allowed in (
            ("addition_embed_type", (None, "text", "text_time")),
            ("encoder_hid_dim_type", (None, "text_proj")),
        ):
            if (value := given.values[name]) not in allowed:
                names = ", ".join(map(repr, allowed))
                raise ExportError(
                    f"{given.where}: {name}={value!r} is not carried, only {names}; {FACTORY}"
                )

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """The text, SDXL's pooled text and sizes, an LCM's guidance, class labels."""
        values = given.values
        null = 0.0 if given.pipeline.get("force_zeros_for_empty_prompt") else None
        found = [self.text(given, self._width(given), null)]
        if values["addition_embed_type"] == "text_time":
            sizes = self._sizes(given)
            pooled = values["projection_class_embeddings_input_dim"] - (
                len(sizes) * values["addition_time_embed_dim"]
            )
            if pooled < 1:
                raise ExportError(
                    f"{given.where}: projection_class_embeddings_input_dim="
                    f"{values['projection_class_embeddings_input_dim']} has no room for a text "
                    f"beside {len(sizes)} sizes of addition_time_embed_dim="
                    f"{values['addition_time_embed_dim']}"
                )
            found.append(Condition(name="text_embeds", shape=(pooled,), null=null))
            found.append(Condition(name="time_ids", shape=(len(sizes),), null=sizes))
        if values["time_cond_proj_dim"] is not None:
            found.append(Condition(name="guidance", null=LCM_GUIDANCE))
        return (*found, *class_labels(values["num_class_embeds"], given.null_class))

    def module(
        self, network: Any, given: Given, conditions: tuple[Condition, ...]
    ) -> torch.nn.Module:
        """The network, which embeds an LCM's guidance itself."""
        width = given.values["time_cond_proj_dim"]
        if width is None:
            return super().module(network, given, conditions)
        from revstep.export.sources.diffusers.modules import GuidedModule

        names = [c.name for c in conditions]
        return GuidedModule(network, names, [n for n in self.added if n in names], width)

    def _width(self, given: Given) -> int:
        """Width of the text's embeddings."""
        found = given.values["encoder_hid_dim"] or given.values["cross_attention_dim"]
        widths = {found} if isinstance(found, int) else set(found)
        if len(widths) != 1:
            raise ExportError(
                f"{given.where}: cross_attention_dim={found!r}, one text of several widths, is not "
                f"carried; {FACTORY}"
            )
        return int(widths.pop())

    def _sizes(self, given: Given) -> list[float]:
        """Original size, corner of the crop, and size; the refiner's score in place of the last."""
        rows, columns = (float(n * given.pixels) for n in self.size(given))
        if given.pipeline.get("requires_aesthetics_score"):
            return [rows, columns, 0.0, 0.0, AESTHETIC]
        return [rows, columns, 0.0, 0.0, rows, columns]
