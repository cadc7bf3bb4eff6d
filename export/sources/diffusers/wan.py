"""``WanTransformer3DModel``: text to video."""

from __future__ import annotations

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition
from revstep.export.sources.diffusers.adapter import Adapter, Given


class Wan(Adapter):
    """States (channels, frames, rows, columns)."""

    name = "WanTransformer3DModel"
    axes = 3
    length = 512

    def check(self, given: Given) -> None:
        """Refuses networks that take a picture, too."""
        given.refuse("image_dim", "added_kv_proj_dim", "pos_embed_seq_len")

    def size(self, given: Given) -> tuple[int, ...]:
        """The caller's: the config has none."""
        if given.size is None:
            raise ExportError(
                f"{given.where} does not say how large its videos are; name their frames, rows and "
                "columns with --size, such as --size 21x60x104 of latents"
            )
        patch = tuple(given.values["patch_size"])
        if any(n % p for n, p in zip(given.size, patch, strict=True)):
            raise ExportError(
                f"{self.name} takes latents in patches of {'x'.join(map(str, patch))}; got a size "
                f"of {'x'.join(map(str, given.size))}"
            )
        return given.size

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """The text."""
        return (self.text(given, given.values["text_dim"]),)
