"""A part whose own float32 rounds by more than the bound is held to its own rounding."""

import functools

import numpy as np
import pytest
import torch

from revstep import Decoder
from revstep.errors import ParityError
from revstep.export.graph.check import ROUNDINGS, _holding
from revstep.export.parity.bounds import BOUNDS, within
from revstep.export.parity.reference import decoder_rounding

from specs import spec_of  # isort: skip


def held(error, own):
    return _holding(lambda b: within("it", error, b.forward), BOUNDS["fp32"], lambda: own, "it")


def test_the_bound_holds_where_it_can():
    assert held(5e-5, own=pytest.fail) == BOUNDS["fp32"]


def test_a_part_that_rounds_is_held_to_its_own_rounding(caplog):
    assert held(4e-4, own=2e-4).forward == ROUNDINGS * 2e-4
    assert "its bundle's bound is 0.0008" in caplog.text


@pytest.mark.parametrize("own", [1e-6, 5e-5])
def test_a_part_that_is_wrong_is_refused_all_the_same(own):
    with pytest.raises(ParityError):
        held(4e-4, own=own)


class Cancelling(torch.nn.Module):
    """Doubles its input beside a large number."""

    def forward(self, latents):
        return (2.0 * latents + 1e4) - 1e4


def test_the_rounding_of_a_decoder_is_what_float64_has_not():
    spec = spec_of(shape=(2, 4, 4), decoder=Decoder(shape=(2, 4, 4)))
    final = np.random.default_rng(0).standard_normal((3, 2, 4, 4)).astype(np.float32)
    rounding = functools.partial(decoder_rounding, spec=spec, final=final)
    assert 1e-5 < rounding(Cancelling()) < 1e-3
    assert rounding(torch.nn.Identity()) == 0.0
