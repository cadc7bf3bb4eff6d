"""``DiTTransformer2DModel``: a transformer under class labels."""

from __future__ import annotations

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition
from revstep.export.sources.diffusers.adapter import Adapter, Given
from revstep.export.sources.diffusers.class_labels import class_labels


class DiT(Adapter):
    """Its table of classes has one more row, the null class."""

    name = "DiTTransformer2DModel"

    def size(self, given: Given) -> tuple[int, ...]:
        """Its output is square, whatever its input is."""
        rows, columns = super().size(given)
        if rows != columns:
            raise ExportError(f"{self.name} has square latents; got a size of {rows}x{columns}")
        return rows, columns

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """The class labels."""
        classes = given.values["num_embeds_ada_norm"]
        return class_labels(classes + 1, given.null_class, known=classes)
