"""What callers may give as pictures and masks, and what is refused in their words."""

import dataclasses

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


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64"])
def test_rgb_bytes_as_floats_are_refused_with_what_is_allowed(encoder, dtype):
    given = np.linspace(0, 255, 3 * 64).reshape(1, 3, 8, 8).astype(dtype)
    assert encoder.takes(given)
    with pytest.raises(ArgumentError) as refused:
        encoder.pixels(given, "known")
    assert str(refused.value) == (
        "known holds values of 0 to 255; a picture's floats lie in -1 to 1 here: give "
        "x / 255 * 2 + -1 of bytes' 0 to 255, or uint8 (8, 8, 3)"
    )
    assert refused.value.argument == "known"


def test_bytes_that_a_resize_took_beyond_their_ends_are_refused_too(encoder):
    given = np.random.default_rng(0).uniform(-9, 262, (3, 8, 8))
    with pytest.raises(ArgumentError, match=r"holds values of -\d.* to 2\d\d"):
        encoder.pixels(given, "start")


@pytest.mark.parametrize(
    "given",
    [
        np.random.default_rng(1).uniform(-1.3, 1.3, (2, 3, 8, 8)),  # a decoder's overshoot
        np.random.default_rng(2).normal(0, 3, (2, 3, 8, 8)),  # standardised
        np.full((3, 8, 8), 2.6),  # standardised, and bright
        np.zeros((0, 3, 8, 8)),
    ],
)
def test_floats_about_the_range_are_taken_as_they_are(encoder, given):
    np.testing.assert_allclose(encoder.pixels(given, "start"), given, rtol=1e-6)


def test_other_data_than_rgb_is_warned_of_and_taken(caplog):
    spec = dataclasses.replace(
        SPEC, decoder=Decoder(shape=(1, 8, 8)), picture_encoder=PictureEncoder(shape=(1, 8, 8))
    )
    rain = np.linspace(0, 80, 64).reshape(1, 8, 8)  # mm, say
    taken = LatentEncoder(spec, lambda pictures: pictures).pixels(rain, "start")
    np.testing.assert_allclose(taken, rain, rtol=1e-6)
    assert "start holds values of 0 to 80; a picture's floats lie in -1 to 1 here" in caplog.text


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
