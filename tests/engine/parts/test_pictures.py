"""What callers may give as pictures and masks, and what is refused in their words."""

import numpy as np
import pytest

from revstep.engine.errors import ArgumentError, ArgumentTypeError
from revstep.engine.parts.pictures import LatentEncoder
from revstep.engine.spec.denoiser import Decoder, DenoiserSpec
from revstep.engine.spec.encoder import PictureEncoder
from revstep.schedules import FlowSchedule

Image = pytest.importorskip("PIL.Image")

SPEC = DenoiserSpec(
    shape=(2, 4, 4), schedule=FlowSchedule(), prediction="flow", value_range=None,
    decoder=Decoder(shape=(3, 8, 8)), picture_encoder=PictureEncoder(shape=(3, 8, 8)),
)  # fmt: skip


@pytest.fixture
def encoder():
    return LatentEncoder(SPEC, lambda pictures: pictures[:, :2, ::2, ::2])


def image(width=8, height=8, value=255, mode="RGB"):
    return Image.new(mode, (width, height), (value,) * 3 if mode == "RGB" else value)


def test_images_bytes_and_floats_are_the_same_pictures(encoder):
    want = np.full((2, 3, 8, 8), 1.0, np.float32)
    for given in ([image(), image()], np.full((2, 8, 8, 3), 255, np.uint8), want):
        assert encoder.takes(given)
        np.testing.assert_allclose(encoder.pixels(given, "start"), want)
    np.testing.assert_allclose(encoder.pixels(image(), "start"), want[0])


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ([image(), np.zeros((3, 8, 8))], ArgumentTypeError, "list with PIL images and ndarray"),
        ([None, image()], ArgumentTypeError, "list with PIL images and None: give PIL images"),
        ([image(), image(4)], ArgumentError, "a picture of 4 x 8; this bundle takes 8 x 8"),
        (
            np.zeros((3, 8, 8), np.uint8), ArgumentError,
            r"uint8 of shape \(3, 8, 8\); pictures are floats \(3, 8, 8\).*bytes \(8, 8, 3\)",
        ),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(encoder, given, error, said):
    with pytest.raises(error, match=f"start is .*{said}"):
        encoder.pixels(given, "start")


def test_arrays_of_different_shapes_are_refused(encoder):
    given = [np.zeros((3, 8, 8)), np.zeros((2, 4, 4))]
    assert not encoder.takes(given)
    with pytest.raises(ArgumentTypeError, match="start can't be read as an array"):
        encoder.check(given, "start")


def test_masks_are_images_of_either_size_or_lists_of_them(encoder):
    assert encoder.mask(image(mode="L")).shape == (4, 4)
    assert encoder.mask(image(4, 4)).shape == (4, 4)
    masks = encoder.mask([image(value=0), image()])
    assert masks.shape == (2, 1, 4, 4)
    np.testing.assert_array_equal(masks[:, 0, 0, 0], [0.0, 1.0])
    with pytest.raises(ArgumentError, match="mask is a picture of 5 x 8; this bundle takes 8 x 8"):
        encoder.mask(image(5))
    with pytest.raises(ArgumentTypeError, match="mask is a list with PIL images and ndarray"):
        encoder.mask([image(), np.zeros((8, 8))])
