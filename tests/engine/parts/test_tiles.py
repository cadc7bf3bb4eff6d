"""Tiles of latents, blended as diffusers blends them."""

import numpy as np
import pytest

from revstep import Decoder
from revstep.engine.parts.tiles import decode_tiles, strips


@pytest.mark.parametrize("size", [8, 9, 14, 15, 20, 33])
@pytest.mark.parametrize(("tile", "overlap"), [(8, 0.25), (8, 0.5), (7, 0.3), (5, 0.0), (8, 0.1)])
def test_the_shares_of_all_tiles_add_up_to_one(size, tile, overlap):
    total, found = np.zeros(4 * size), strips(size, tile, 4, overlap)
    for strip in found:
        total[strip.begin : strip.end] += strip.weights
        assert 0 <= strip.latents <= size - tile
        assert 4 * strip.latents <= strip.begin < strip.end == 4 * (strip.latents + tile)
    np.testing.assert_allclose(total, 1.0, atol=1e-6)
    assert found[-1].end == 4 * size


def test_what_a_decoder_does_point_by_point_is_the_same_in_tiles():
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((2, 3, 19, 11)).astype(np.float32)
    spec = Decoder(shape=(3, 38, 22), tile=(8, 8), overlap=0.25)

    def decode(z):
        assert z.shape[-2:] == (8, 8)
        return np.repeat(np.repeat(z**2, 2, -1), 2, -2)

    wanted = np.repeat(np.repeat(latents**2, 2, -1), 2, -2)
    np.testing.assert_allclose(decode_tiles(latents, spec, decode), wanted, atol=1e-6)


@pytest.fixture(scope="module")
def vae():
    """A VAE of stride 4 with tiles of 8 x 8 latents, which it decodes by itself where larger."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    found = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 16), norm_num_groups=4, sample_size=32, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
    )  # fmt: skip
    found.enable_tiling()
    return found.eval()


def decoded(vae, latents):
    import torch

    with torch.no_grad():
        return vae.decode(torch.from_numpy(latents)).sample.numpy()


def both(vae, latents, shape):
    """The pictures by our tiles, and by diffusers'."""
    spec = Decoder(shape=shape, tile=(8, 8), overlap=vae.tile_overlap_factor)
    return decode_tiles(latents, spec, lambda z: decoded(vae, z)), decoded(vae, latents)


def test_one_row_of_tiles_is_that_of_diffusers(vae):
    """diffusers ends each axis with a smaller tile, so all up to that seam is compared."""
    latents = np.random.default_rng(1).standard_normal((2, 4, 20, 8)).astype(np.float32)
    ours, theirs = both(vae, latents, (3, 80, 32))
    np.testing.assert_allclose(ours[:, :, :64, :24], theirs[:, :, :64, :24], atol=2e-5)
    ours, theirs = both(vae, latents.swapaxes(2, 3).copy(), (3, 32, 80))
    np.testing.assert_allclose(ours[:, :, :24, :64], theirs[:, :, :24, :64], atol=2e-5)


def test_a_sheet_of_tiles_is_that_of_diffusers_but_where_four_meet(vae):
    """There diffusers blends the upper right tile twice, as its tiles change while it goes on."""
    latents = np.random.default_rng(2).standard_normal((1, 4, 14, 14)).astype(np.float32)
    ours, theirs = both(vae, latents, (3, 56, 56))
    away = np.abs(ours - theirs).max(axis=(0, 1))[:48, :48]
    corner = away[24:32, 24:32].copy()
    away[24:32, 24:32] = 0.0
    assert away.max() < 2e-5
    assert 1e-3 < corner.max() < 0.3 * np.ptp(theirs)
