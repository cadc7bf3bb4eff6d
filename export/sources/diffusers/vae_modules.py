"""``AutoencoderKL`` as two modules, without the scale and shift that the spec has."""

from __future__ import annotations

from typing import Any

import torch


class Normalised(torch.nn.Module):
    """A VAE whose config may say a mean and a spread of each channel of its latents."""

    latents_mean: torch.Tensor
    latents_std: torch.Tensor

    def __init__(self, vae: Any, part: str, conv: str) -> None:
        super().__init__()
        self.part, self.conv = getattr(vae, part), getattr(vae, conv)
        one = (1, vae.config.latent_channels, 1, 1)
        for name, plain in (("latents_mean", 0.0), ("latents_std", 1.0)):
            value = getattr(vae.config, name, None)
            tensor = torch.full(one, plain) if value is None else torch.tensor(value).view(one)
            self.register_buffer(name, tensor.float())
        self.plain = vae.config.latents_mean is None and vae.config.latents_std is None


class PicturesOfLatents(Normalised):
    """Latents (B, C, h, w) to pictures (B, 3, H, W)."""

    def __init__(self, vae: Any) -> None:
        super().__init__(vae, "decoder", "post_quant_conv")

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Of latents of any size."""
        if not self.plain:
            latents = latents * self.latents_std + self.latents_mean
        if self.conv is not None:
            latents = self.conv(latents)
        pictures: torch.Tensor = self.part(latents)
        return pictures


class LatentsOfPictures(Normalised):
    """Pictures (B, 3, H, W) to the mean of their latents (B, C, h, w); nothing is drawn."""

    def __init__(self, vae: Any) -> None:
        super().__init__(vae, "encoder", "quant_conv")

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Of pictures in [-1, 1]."""
        moments = self.part(pictures)
        if self.conv is not None:
            moments = self.conv(moments)
        mean: torch.Tensor = moments.chunk(2, dim=1)[0]
        return mean if self.plain else (mean - self.latents_mean) / self.latents_std
