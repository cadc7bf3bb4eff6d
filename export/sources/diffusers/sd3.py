"""``SD3Transformer2DModel``: Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition
from revstep.export.sources.diffusers.adapter import Adapter, Given


class SD3(Adapter):
    """A transformer that text and latents go through side by side."""

    name = "SD3Transformer2DModel"
    length = 77 + 256  # of CLIP and of T5

    def size(self, given: Given) -> tuple[int, ...]:
        """Up to the table of places."""
        found = super().size(given)
        most = given.values["pos_embed_max_size"] * given.values["patch_size"]
        if max(found) > most:
            raise ExportError(
                f"{self.name} has places for latents of {most}x{most} at most "
                f"(pos_embed_max_size); got a size of {'x'.join(map(str, found))}"
            )
        return found

    def tokens(self, given: Given) -> int:
        """Patches."""
        rows, columns = self.size(given)
        return rows * columns // int(given.values["patch_size"]) ** 2

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """The text, and the pooled text."""
        return (
            self.text(given, given.values["joint_attention_dim"]),
            Condition(name="pooled_projections", shape=(given.values["pooled_projection_dim"],)),
        )
