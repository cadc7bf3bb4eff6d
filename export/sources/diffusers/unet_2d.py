"""``UNet2DModel``: pixels or latents, class labels; consistency models too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition
from revstep.export.sources.diffusers.adapter import FACTORY, Adapter, Given
from revstep.export.sources.diffusers.class_labels import class_labels

if TYPE_CHECKING:
    import torch


class UNet2D(Adapter):
    """DDPM's U-Net, and what grew of it."""

    name = "UNet2DModel"
    state = "sample"
    pixel_data = True

    def check(self, given: Given) -> None:
        """Refuses Fourier features of a noise level, and class embeddings of another kind."""
        values = given.values
        if values["time_embedding_type"] == "fourier" or values["class_embed_type"] is not None:
            raise ExportError(
                f"{given.where}: time_embedding_type={values['time_embedding_type']!r} with "
                f"class_embed_type={values['class_embed_type']!r} is not carried; {FACTORY}"
            )

    def fractions(self, given: Given) -> bool:
        """Learned embeddings are of whole times."""
        return bool(given.values["time_embedding_type"] == "positional")

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """Class labels, where it has any."""
        return class_labels(given.values["num_class_embeds"], given.null_class)

    def module(
        self, network: Any, given: Given, conditions: tuple[Condition, ...]
    ) -> torch.nn.Module:
        """The network as a module of (x, t) or (x, t, class_labels)."""
        from revstep.export.sources.diffusers.modules import UNetModule

        whole = given.values["time_embedding_type"] == "learned"
        return UNetModule(network, whole_times=whole)
