"""Rows of the networks beside the denoiser: one a call where asked, and as many as were given."""

from pathlib import Path

import numpy as np
import pytest

import revstep
from revstep.engine.backends.onnx_part import OrtPart
from revstep.engine.backends.part import OneRowPart
from revstep.engine.backends.signature import Port
from revstep.engine.errors import BackendError
from revstep.engine.parts.decoder import LatentDecoder
from revstep.engine.parts.network import PartNetwork

FLOAT, GRAPH = np.dtype(np.float32), Path("decoder.onnx")
LATENTS = np.ones((3, 2, 4, 4), np.float32)


class Part:
    """Gives the shape ``gives(rows)``; keeps the rows of its calls."""

    rows = 8

    def __init__(self, gives):
        self._gives, self.calls = gives, []
        self.inputs = [Port("z", "float", FLOAT, ("n", 2, "h", "w"))]
        self.outputs = [Port("out", "float", FLOAT, ("n", 3, "h2", "w2"))]

    def run(self, feeds):
        (value,) = feeds.values()
        self.calls.append(len(value))
        return [np.ones(self._gives(len(value)), np.float32)]

    def describe(self):
        return {}


def decoder(part, tile=None):
    if tile is not None:
        part.inputs = [Port("z", "float", FLOAT, ("n", 2, *tile))]
    return LatentDecoder(part, GRAPH, revstep.Decoder(shape=(3, 8, 8), tile=tile))


def network(part):
    made = PartNetwork(
        part, GRAPH, [("z", "float32", (2, 4, 4))], [("y", "float32", (3, 8, 8))]
    )  # fmt: skip
    return lambda latents: made({"z": latents})[0]


@pytest.mark.parametrize("make", [decoder, network])
def test_a_graph_that_gives_one_row_for_all_is_refused(make):
    assert make(Part(lambda rows: (rows, 3, 8, 8)))(LATENTS).shape == (3, 3, 8, 8)
    run = make(Part(lambda _: (1, 3, 8, 8)))
    with pytest.raises(BackendError, match=r"decoder.onnx.*\(1, 3, 8, 8\).*\(3, 3, 8, 8\) was due"):
        run(LATENTS)
    assert run(LATENTS[:1]).shape == (1, 3, 8, 8)
    with pytest.raises(BackendError, match=r"\(3, 3, 1, 8\)"):
        make(Part(lambda rows: (rows, 3, 1, 8)))(LATENTS)


def test_a_decoder_of_tiles_refuses_tiles_of_another_shape():
    good = decoder(Part(lambda rows: (rows, 3, 4, 4)), tile=(2, 2))
    assert good(LATENTS).shape == (3, 3, 8, 8)
    for gives in (lambda _: (1, 3, 4, 4), lambda rows: (rows, 3, 1, 1)):
        with pytest.raises(BackendError, match=r"\(3, 3, 4, 4\) was due"):
            decoder(Part(gives), tile=(2, 2))(LATENTS)


@pytest.mark.parametrize("make", [decoder, network])
def test_a_part_of_one_row_is_called_row_by_row(make):
    part = Part(lambda rows: (rows, 3, 8, 8))
    assert make(OneRowPart(part))(LATENTS).shape == (3, 3, 8, 8)
    assert part.calls == [1, 1, 1]


@pytest.mark.parametrize("reproducible", [False, True])
def test_all_networks_of_a_reproducible_engine_are_called_row_by_row(
    reading_bundle, monkeypatch, reproducible
):
    calls = {}

    def run(part, feeds, run=OrtPart.run):
        calls.setdefault(part._who.split(",")[0], []).append(len(next(iter(feeds.values()))))
        return run(part, feeds)

    monkeypatch.setattr(OrtPart, "run", run)
    engine = revstep.load(reading_bundle, reproducible=reproducible)
    start = np.zeros((3, 3, 8, 8), np.float32)
    engine.sample(3, prompt=["a", "b", "c"], start=start, strength=0.5, steps=2)
    rows = [1, 1, 1] if reproducible else [3]
    assert calls == {
        "the bundle's encoder 'text'": rows,
        "the bundle's picture encoder": rows,
        "the bundle's latent decoder": rows,
    }
