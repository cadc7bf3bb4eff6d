"""A decoder of tiles: one graph of a tile, held to PyTorch's own, and run over all of them."""

import numpy as np
import pytest

import revstep
from revstep.engine.parts.tiles import decode_tiles

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

TILE = (6, 5)


class Network(torch.nn.Module):
    def forward(self, x, t):
        return 0.1 * x * (1 + t / 1000).view(-1, 1, 1, 1)


class Twice(torch.nn.Module):
    """Latents (B, 2, h, w) to pictures (B, 3, 2 h, 2 w), of any size."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, latents):
        return self.conv(torch.nn.functional.interpolate(latents, scale_factor=2.0))


@pytest.fixture(scope="module")
def tiled(tmp_path_factory):
    from revstep.export import export_module

    torch.manual_seed(0)
    decoder = Twice().eval()
    spec = revstep.DenoiserSpec(
        shape=(2, 13, 12), schedule=revstep.schedules.VPSchedule(betas="linear"),
        prediction="epsilon",
        decoder=revstep.Decoder(shape=(3, 26, 24), scale=0.5, shift=0.1, tile=TILE),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("tiled") / "tiled.revstep"
    export_module(Network().eval(), spec, path, decoder=decoder)
    return path, decoder


def test_pictures_are_blended_of_tiles_that_the_graph_decodes(tiled):
    path, decoder = tiled
    engine = revstep.load(path)
    samples = engine.sample(2, steps=3, seed=1)

    def decode(latents):
        assert latents.shape[-2:] == TILE
        with torch.no_grad():
            return decoder(torch.from_numpy(latents)).numpy()

    wanted = decode_tiles(
        samples.x / np.float32(0.5) + np.float32(0.1), engine.spec.decoder, decode
    )
    np.testing.assert_allclose(samples.decoded, wanted, rtol=1e-5, atol=1e-6 * np.ptp(wanted))
    with torch.no_grad():
        whole = decoder(torch.from_numpy(samples.x / 0.5 + 0.1)).numpy()
    assert np.abs(samples.decoded - whole).max() > 1e-3  # at the edges of tiles


def test_a_graph_of_another_tile_is_refused(tiled):
    from revstep.engine.backends.onnx_part import OrtPart
    from revstep.engine.errors import BackendError
    from revstep.engine.parts.decoder import LatentDecoder

    spec, graph = revstep.Decoder(shape=(3, 26, 24), tile=(6, 6)), tiled[0] / "decoder.onnx"
    with pytest.raises(BackendError, match="the input is"):
        LatentDecoder(OrtPart(graph, "the decoder"), graph, spec)
