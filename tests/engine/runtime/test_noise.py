"""Between seeds: the arc from one noise to another."""

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon

from revstep import DenoiserSpec, Engine, initial_noise, slerp
from revstep.kernels.noise import normals
from revstep.schedules import VPSchedule

SHAPE = (3, 16, 16)


def test_initial_noise_is_what_the_seeds_samples_start_from():
    spec = DenoiserSpec(shape=SHAPE, schedule=VPSchedule(), prediction="epsilon", batch=(1, 8))
    engine = Engine(NumpyDenoiser(spec, gaussian_epsilon(spec)))
    noise = initial_noise([3, 2**64 - 1], SHAPE)
    assert noise.dtype == np.float32
    np.testing.assert_array_equal(noise[0].ravel(), normals(3, 0, 1, 3 * 16 * 16))
    want = engine.sample(seed=[3, 2**64 - 1], steps=4).x
    np.testing.assert_array_equal(engine.sample(noise=noise, steps=4, seed=0).x, want)
    np.testing.assert_array_equal(initial_noise(7, (2, 5), 3), initial_noise([7, 8, 9], [2, 5]))
    assert initial_noise(7, (5,)).shape == (1, 5)


def test_the_ends_are_the_two_noises_bit_for_bit():
    a, b = initial_noise([1, 2], SHAPE)
    path = slerp(a, b, [0.0, 0.5, 1.0])
    assert path.shape == (3, *SHAPE)
    assert path.dtype == np.float32
    np.testing.assert_array_equal(path[0], a)
    np.testing.assert_array_equal(path[2], b)
    np.testing.assert_array_equal(slerp(a, b, 0.5), path[1])


def test_unit_variance_is_kept_where_the_straight_line_loses_half():
    mix = np.linspace(0, 1, 11)
    for seed in range(5):
        a, b = initial_noise([seed, seed + 100], SHAPE)
        variance = slerp(a, b, mix).reshape(11, -1).var(axis=1)
        np.testing.assert_allclose(variance, 1.0, atol=0.12)
        straight = ((1 - mix)[:, None] * a.ravel() + mix[:, None] * b.ravel()).var(axis=1)
        assert straight[5] < 0.6


def test_mixtures_of_many_seeds_have_the_variance_of_one():
    mixed = np.stack([slerp(*initial_noise([k, k + 5000], (8,)), 0.3) for k in range(2000)])
    assert mixed.mean() == pytest.approx(0.0, abs=0.03)
    assert mixed.var() == pytest.approx(1.0, abs=0.03)


def test_equal_steps_turn_by_equal_angles_and_the_mean_square_goes_evenly():
    a, b = np.array([2.0, 0.0]), np.array([0.0, 4.0])
    path = slerp(a, b, [0.0, 0.25, 0.5, 0.75, 1.0]).astype(np.float64)
    angles = np.arctan2(path[:, 1], path[:, 0])
    np.testing.assert_allclose(angles, np.pi / 8 * np.arange(5), atol=1e-6)
    np.testing.assert_allclose((path**2).sum(axis=1), [4.0, 7.0, 10.0, 13.0, 16.0], rtol=1e-6)


def test_a_noise_and_itself_give_itself():
    a = initial_noise(4, SHAPE)[0]
    np.testing.assert_allclose(slerp(a, a, 0.3), a, rtol=1e-6)
    np.testing.assert_array_equal(slerp(np.zeros(3), np.ones(3), 0.5), np.full(3, 0.5))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([1.0, 2.0], [1.0], 0.5), ValueError, r"a has shape \(2,\) and b \(1,\)"),
        (([1.0, np.nan], [1.0, 0.0], 0.5), ValueError, "a holds NaN"),
        (([1.0, 2.0], [-2.0, -4.0], 0.5), ValueError, "opposite directions"),
        (([1.0, 2.0], [1.0, 0.0], [[0.5]]), ValueError, "one per sample"),
        (([1.0, 2.0], [1.0, 0.0], np.nan), ValueError, r"in \[0, 1\]"),
        (([1.0, 2.0], [1.0, 0.0], 1.5), ValueError, r"in \[0, 1\]"),
        (([1.0, 2.0], [1.0, 0.0], "half"), TypeError, "mix must be numbers"),
        ((["a", "b"], [1.0, 0.0], 0.5), TypeError, "a must be numbers"),
    ],
)
def test_bad_mixtures_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        slerp(*arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((None, (2,)), TypeError, "needs a seed"),
        ((-1, (2,)), ValueError, "out of range"),
        ((1.5, (2,)), TypeError, "must be an int"),
        (([1, 2], (2,), 3), ValueError, "2 seeds for 3"),
        ((1, (2.0,)), TypeError, "shape must be a whole number; got float 2.0"),
        ((1, (2,), 0), ValueError, "whole numbers, 1 or more"),
    ],
)
def test_bad_seeds_and_shapes_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        initial_noise(*arguments)
