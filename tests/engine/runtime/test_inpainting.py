"""Inpainting: what is known comes out as it is, and every step follows the written formula."""

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon

import revstep.engine
from revstep import Condition, DenoiserSpec, Engine
from revstep.engine.program.samplers import RePaint
from revstep.kernels.noise import normals
from revstep.samplers import DDIM
from revstep.schedules import VPSchedule

SHAPE = (2, 4, 5)
RNG = np.random.default_rng(0)
KNOWN = RNG.uniform(-1, 1, SHAPE).astype(np.float32)
MASK = (RNG.random(SHAPE) < 0.5).astype(np.float32)
SAMPLERS = ["ddpm", DDIM(eta=0.6), RePaint(jump_length=2, repeats=3)]
NAMES = [name for name in revstep.samplers.SAMPLERS if not name.startswith("flow_")]  # VP has none


def spec(**fields):
    return DenoiserSpec(
        **{
            "shape": SHAPE,
            "schedule": VPSchedule(),
            "prediction": "epsilon",
            "batch": (1, 8),
            **fields,
        }
    )


def engine(**fields):
    given = spec(**fields)
    return Engine(NumpyDenoiser(given, gaussian_epsilon(given)))


def seen_by(network_spec):
    """(engine, list of (x, t) that its network was fed)."""
    seen, exact = [], gaussian_epsilon(network_spec)

    def network(x, t, conditions):
        seen.append((x.copy(), t.copy()))
        return exact(x, t, conditions)

    return Engine(NumpyDenoiser(network_spec, network)), seen


@pytest.mark.parametrize("sampler", [*NAMES, *SAMPLERS], ids=str)
@pytest.mark.parametrize("fields", [{}, {"final": "first"}], ids=["clean", "first"])
def test_known_pixels_come_out_exactly_and_the_hole_is_filled(sampler, fields):
    for options in ({}, {"compat": "diffusers"}):
        x = engine(**fields).sample(
            3, sampler=sampler, steps=8, seed=1, mask=MASK, known=KNOWN, **options
        )
        kept = np.broadcast_to(MASK == 1, x.x.shape)
        np.testing.assert_array_equal(x.x[kept], np.broadcast_to(KNOWN, x.x.shape)[kept])
        assert np.all(np.isfinite(x.x))
        assert np.abs(x.x - KNOWN)[~kept].mean() > 0.1


def test_every_step_is_the_papers_formula():
    """DDPM with a soft mask, in float64 from RePaint's eq. 8 and DDPM's eq. 7."""
    given, n, steps = spec(), 2, 6
    mask = RNG.random(SHAPE)
    got = engine().sample(n, sampler="ddpm", steps=steps, seed=7, mask=mask, known=KNOWN).x
    network, D = gaussian_epsilon(given), KNOWN.size
    draw = lambda index, stream: np.stack(  # noqa: E731
        [normals(k, index, stream, D).reshape(SHAPE) for k in (7, 8)]
    ).astype(np.float64)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    times = [round(1000 - k * 1000 / steps) - 1 for k in range(steps)]
    levels = [*(abar[t] for t in times), 1.0]
    soft = mask.astype(np.float32).astype(np.float64)
    y = KNOWN.astype(np.float64)
    x = np.sqrt(levels[0]) * soft * y + np.sqrt(1 - levels[0]) * draw(0, 1)
    for k, t in enumerate(times):
        now, then = levels[k], levels[k + 1]
        x0 = (x - np.sqrt(1 - now) * network(x, np.full(n, t), {})) / np.sqrt(now)
        a = now / then
        mean = (np.sqrt(then) * (1 - a) * x0 + np.sqrt(a) * (1 - then) * x) / (1 - now)
        unknown = mean + np.sqrt((1 - then) / (1 - now) * (1 - a)) * draw(k, 0)
        noised = np.sqrt(then) * y + np.sqrt(1 - then) * draw(k, 2)
        x = soft * noised + (1 - soft) * unknown
    np.testing.assert_allclose(got, x, atol=3e-5)


def test_the_hole_begins_as_noise_or_as_the_start():
    given = spec()
    alpha, sigma = given.schedule.alpha_sigma(999)
    z = normals(5, 0, 1, KNOWN.size).reshape(SHAPE)
    e, seen = seen_by(given)
    e.sample(1, seed=5, steps=4, mask=MASK, known=KNOWN)
    np.testing.assert_allclose(seen[0][0][0], alpha * MASK * KNOWN + sigma * z, atol=1e-5)
    y = np.full(SHAPE, 3.0)
    e, seen = seen_by(given)
    e.sample(1, seed=5, steps=4, mask=MASK, known=KNOWN, start=y, strength=0.5)
    alpha, sigma = given.schedule.alpha_sigma(int(seen[0][1][0]))
    want = alpha * np.where(MASK == 1, KNOWN, y) + sigma * z
    np.testing.assert_allclose(seen[0][0][0], want, rtol=1e-4, atol=1e-5)
    assert len(seen) == 2


def test_the_start_is_what_is_known_where_nothing_else_is_given():
    a = engine().sample(start=KNOWN, mask=MASK, strength=0.7, steps=9, seed=2)
    b = engine().sample(start=KNOWN, mask=MASK, known=KNOWN, strength=0.7, steps=9, seed=2)
    np.testing.assert_array_equal(a.x, b.x)
    np.testing.assert_array_equal(a.x[0][MASK == 1], KNOWN[MASK == 1])


@pytest.mark.parametrize(
    "given",
    [
        MASK[0],
        MASK[:1],
        MASK[0].astype(bool),
        MASK[0].astype(np.uint8).tolist(),
        np.stack([MASK[:1]] * 3),
        np.broadcast_to(MASK[0], (3, *SHAPE)),
    ],
    ids=["(H, W)", "(1, H, W)", "bool", "list", "(n, 1, H, W)", "whole"],
)
def test_spatial_masks_serve_all_channels_and_samples(given):
    options = {"steps": 4, "seed": 3, "sampler": "ddpm", "known": KNOWN}
    want = engine().sample(3, mask=np.broadcast_to(MASK[0], (3, *SHAPE)), **options).x
    np.testing.assert_array_equal(engine().sample(3, mask=given, **options).x, want)


def test_masks_and_known_pixels_of_their_own_travel_with_their_sample():
    masks = (RNG.random((11, 1, 4, 5)) < 0.5).astype(np.float32)
    known = RNG.uniform(-1, 1, (11, *SHAPE)).astype(np.float32)
    options = {"steps": 4, "sampler": "ddpm"}
    whole = engine().sample(mask=masks, known=known, seed=50, **options)
    assert len(whole) == 11
    chunked = engine().sample(mask=masks, known=known, seed=50, batch_size=3, **options)
    np.testing.assert_array_equal(chunked.x, whole.x)
    for k in (0, 6, 10):
        alone = engine().sample(1, mask=masks[k], known=known[k], seed=50 + k, **options)
        np.testing.assert_array_equal(alone.x[0], whole.x[k])


def test_an_empty_mask_changes_nothing_and_a_full_one_everything():
    plain = engine().sample(2, sampler="ddpm", steps=5, seed=4).x
    options = {"sampler": "ddpm", "steps": 5, "seed": 4, "known": KNOWN}
    np.testing.assert_array_equal(engine().sample(2, mask=0.0, **options).x, plain)
    full = engine().sample(2, mask=True, **options).x
    np.testing.assert_array_equal(full, np.stack([KNOWN, KNOWN]))


@pytest.mark.parametrize("sampler", [*NAMES, *SAMPLERS], ids=str)
def test_what_is_known_never_leaks_into_other_pixels(sampler):
    """The network is one of single elements, so the hole's bits are those of a run without mask."""
    plain = engine().sample(2, sampler=sampler, steps=7, seed=6).x
    got = engine().sample(2, sampler=sampler, steps=7, seed=6, mask=MASK, known=KNOWN).x
    np.testing.assert_array_equal(got[:, MASK == 0], plain[:, MASK == 0])


def test_guided_samples_are_inpainted_like_others():
    fields = {"conditions": (Condition(name="shift", null=0.0),)}
    x = engine(**fields).sample(
        3, steps=5, seed=0, mask=MASK, known=KNOWN, guidance=[1, 2, 3], conditions={"shift": 0.4}
    )
    kept = np.broadcast_to(MASK == 1, x.x.shape)
    np.testing.assert_array_equal(x.x[kept], np.broadcast_to(KNOWN, x.x.shape)[kept])


def linear_gaussian(mean, covariance):
    """The exact epsilon network of N(mean, covariance), and its engine."""
    given = DenoiserSpec(
        shape=mean.shape, schedule=VPSchedule(), prediction="epsilon", batch=(1, 2048)
    )

    def network(x, t, conditions):
        alpha, sigma = (float(v) for v in given.schedule.alpha_sigma(float(t[0])))
        whole = alpha**2 * covariance + sigma**2 * np.eye(len(mean))
        return sigma * (x - alpha * mean) @ np.linalg.inv(whole)

    return Engine(NumpyDenoiser(given, network))


def test_resampling_brings_the_hole_to_its_conditional_law():
    """Of a correlated Gaussian, whose conditional law is known. RePaint approaches it.

    One pass knows of the surround too late; the more often a stretch is walked, and the shorter
    the steps, the nearer the mean comes.
    """
    mean, covariance = np.array([0.3, -0.2]), np.array([[0.5, 0.4], [0.4, 0.5]])
    y = 1.2
    want = mean[1] + covariance[1, 0] / covariance[0, 0] * (y - mean[0])
    deviation = np.sqrt(covariance[1, 1] - covariance[0, 1] ** 2 / covariance[0, 0])
    e, missed = linear_gaussian(mean, covariance), []
    for steps, sampler in ((50, "ddpm"), (50, RePaint(5, 5)), (100, RePaint(5, 15))):
        x = e.sample(2048, sampler=sampler, steps=steps, seed=0, mask=[1, 0], known=[y, 0.0]).x
        assert np.all(x[:, 0] == np.float32(y))
        missed.append(abs(x[:, 1].mean() - want))
        assert x[:, 1].std() == pytest.approx(deviation, rel=0.12)
    assert missed[0] > 0.25
    assert missed[1] < 0.6 * missed[0]
    assert missed[2] < 0.07


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"mask": MASK}, ValueError, "mask needs the pixels that it keeps"),
        ({"known": KNOWN}, ValueError, "known goes with mask"),
        ({"mask": MASK * 255, "known": KNOWN}, ValueError, r"holds 255; it lies in \[0, 1\]"),
        ({"mask": -MASK, "known": KNOWN}, ValueError, r"holds -1; it lies in \[0, 1\]"),
        (
            {"mask": np.ones((5, 4)), "known": KNOWN},
            ValueError,
            r"mask has shape \(5, 4\); allowed",
        ),
        ({"mask": np.ones((3, 1, 4, 5)), "known": KNOWN}, ValueError, "or 2 of such"),
        ({"mask": np.full(SHAPE, np.nan), "known": KNOWN}, ValueError, "NaN"),
        ({"mask": "face", "known": KNOWN}, TypeError, "must be numbers"),
        ({"mask": MASK, "known": KNOWN[0]}, ValueError, "known has shape"),
        ({"mask": MASK, "known": KNOWN, "strength": 0.5}, ValueError, "strength goes with start"),
    ],
)
def test_bad_arguments_are_refused_before_the_network_is_called(arguments, error, message):
    network = NumpyDenoiser(spec(), gaussian_epsilon(spec()))
    with pytest.raises(error, match=message):
        Engine(network).sample(2, **arguments)
    assert network.rows == []
