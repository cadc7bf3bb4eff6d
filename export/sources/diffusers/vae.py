"""A pipeline's ``AutoencoderKL``: latents to pictures, and pictures to latents."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Decoder, DenoiserSpec
from revstep.engine.spec.encoder import PictureEncoder
from revstep.export.sources.diffusers.weights import load_network

if TYPE_CHECKING:
    import torch

CLASS = "AutoencoderKL"
WHOLE = 128  # rows or columns of latents up to which they are decoded at once: 1024 pixels


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PictureParts:
    """Both directions of a VAE, with their descriptions."""

    decoder: torch.nn.Module
    decoder_spec: Decoder
    encoder: torch.nn.Module
    encoder_spec: PictureEncoder


def picture_parts(folder: Path, config: dict[str, Any], spec: DenoiserSpec) -> PictureParts:
    """The VAE of latents (C, rows, columns).

    Latents of more than 128 rows or columns are decoded in tiles, of the size that the VAE was
    trained with.

    Args:
        folder: The VAE's folder.
        config: What its config holds.
        spec: The denoiser's spec, of latents.

    Raises:
        ExportError: Its weights are missing, or its latents aren't the denoiser's.
    """
    from revstep.export.sources.diffusers.vae_modules import LatentsOfPictures, PicturesOfLatents

    vae: Any = load_network(folder, CLASS)
    channels, rows, columns = spec.shape
    if vae.config.latent_channels != channels:
        raise ExportError(
            f"{folder} has latents of {vae.config.latent_channels} channels, and the denoiser's "
            f"state has {channels}: they are of different models"
        )
    stride = 2 ** (len(vae.config.block_out_channels) - 1)
    size = (rows * stride, columns * stride)
    scale, shift = config.get("scaling_factor"), config.get("shift_factor")
    side = max(1, int(vae.tile_latent_min_size))
    tile = (min(side, rows), min(side, columns)) if max(rows, columns) > max(side, WHOLE) else None
    try:
        described = Decoder(
            shape=(vae.config.out_channels, *size),
            scale=float(vae.config.scaling_factor if scale is None else scale),
            shift=float(shift or 0.0),
            tile=tile,
        )
    except (TypeError, ValueError) as error:
        raise ExportError(f"{folder / 'config.json'} describes no valid VAE: {error}") from error
    return PictureParts(
        decoder=PicturesOfLatents(vae).eval(),
        decoder_spec=described,
        encoder=LatentsOfPictures(vae).eval(),
        encoder_spec=PictureEncoder(shape=(vae.config.in_channels, *size)),
    )
