"""``PixArtTransformer2DModel``: a transformer that attends to T5's embeddings."""

from __future__ import annotations

from revstep.engine.spec.denoiser import Condition
from revstep.export.sources.diffusers.adapter import Adapter, Given

LENGTHS = {"PixArtSigmaPipeline": 300}
MICRO_CONDITIONED = 128  # the sample_size of alpha's networks of 1024 x 1024 pixels


class PixArt(Adapter):
    """PixArt-alpha and PixArt-Sigma; alpha's largest take the picture's size too."""

    name = "PixArtTransformer2DModel"
    length = 120
    added = ("resolution", "aspect_ratio")

    def conditions(self, given: Given) -> tuple[Condition, ...]:
        """The text, its mask, and the picture's size where the network takes it."""
        values = given.values
        text = self.text(given, values["caption_channels"] or values["cross_attention_dim"])
        mask = self.mask(text)
        sized = values["use_additional_conditions"]
        if sized is None:
            sized = values["sample_size"] == MICRO_CONDITIONED
        if not sized:
            return text, mask
        rows, columns = (float(n * given.pixels) for n in self.size(given))
        return (
            text,
            mask,
            Condition(name="resolution", shape=(2,), null=[rows, columns]),
            Condition(name="aspect_ratio", shape=(1,), null=[rows / columns]),
        )

    def text_length(self, given: Given) -> int:
        """120 tokens of alpha, 300 of Sigma."""
        return LENGTHS.get(str(given.pipeline.get("_class_name")), self.length)
