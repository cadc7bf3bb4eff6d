"""Schedules that are functions of t, and the sigmoids that share a name."""

import itertools
import json
import math

import numpy as np
import pytest
from networks import NumpyDenoiser

from revstep import DenoiserSpec, Engine, TimeInput, build_program
from revstep.engine.spec.schedule import schedule_from_dict
from revstep.schedules import ContinuousVPSchedule, VPSchedule

CURVES = [
    ContinuousVPSchedule(),
    ContinuousVPSchedule(beta_min=0.0, beta_max=12.0),
    ContinuousVPSchedule(curve="cosine"),
    ContinuousVPSchedule(curve="sigmoid"),
    ContinuousVPSchedule(curve="sigmoid", start=0.0, tau=0.7, steps=64),
]
T = np.array([0.0, 1e-4, 1e-3, 0.0123, 0.25, 0.5, 0.77, 0.99])


def test_linear_is_the_sde_of_its_betas():
    """abar = exp(-integral of beta), by Simpson's rule, exact for a line."""
    schedule = ContinuousVPSchedule(beta_min=0.3, beta_max=11.0)
    for t in T:
        ends = [0.3 + u * (11.0 - 0.3) for u in (0.0, t / 2, t)]
        integral = t / 6 * (ends[0] + 4 * ends[1] + ends[2])
        alpha, sigma = schedule.alpha_sigma(t)
        assert alpha == pytest.approx(math.exp(-integral / 2), rel=1e-14)
        assert sigma == pytest.approx(math.sqrt(-math.expm1(-integral)), rel=1e-13)


@pytest.mark.parametrize("steps", [100, 1000])
@pytest.mark.parametrize(("curve", "betas"), [("cosine", "squaredcos_cap_v2"), ("sigmoid", None)])
def test_tables_of_the_same_name_are_its_values(curve, betas, steps):
    """A table's index i is t = (i + 1) / T, until its betas are cut off."""
    own = VPSchedule(betas=betas, steps=steps) if betas else VPSchedule.sigmoid(steps)
    alpha, _ = ContinuousVPSchedule(curve=curve, steps=steps).alpha_sigma(
        (np.arange(steps) + 1) / steps
    )
    np.testing.assert_allclose(own.alphas_cumprod[:-1], alpha[:-1] ** 2, rtol=1e-9)


@pytest.mark.parametrize("schedule", CURVES, ids=repr)
def test_it_preserves_variance_and_inverts(schedule):
    alpha, sigma = schedule.alpha_sigma(T)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-14)
    assert np.all(np.diff(alpha) < 0.0)
    assert (float(alpha[0]), float(sigma[0])) == (1.0, 0.0)
    np.testing.assert_allclose(schedule.from_level(sigma / alpha), T, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(schedule.from_index(schedule.index(T)), T, atol=1e-15)
    end = schedule.level(1.0)
    assert (end == np.inf) == (schedule.curve != "linear")
    assert schedule.from_level(end) == 1.0
    assert schedule.from_level(0.0) == schedule.clean == schedule.from_index(-1) == 0.0
    low, high = schedule.level_range
    assert 0.0 < low < high < np.inf
    assert schedule_from_dict(json.loads(json.dumps(schedule.to_dict()))) == schedule


@pytest.mark.parametrize(("kind", "want"), [("unit", 0.6), ("thousand", 600.0), ("log_snr", None)])
def test_the_network_is_fed_any_time(kind, want):
    schedule = ContinuousVPSchedule()
    spec = DenoiserSpec(
        shape=(2,), schedule=schedule, prediction="epsilon", time=TimeInput(kind=kind)
    )
    fed = build_program(spec, "ddim", 5, grid="trailing").points[2].time
    if want is None:
        integral = 0.5 * 19.9 * 0.36 + 0.1 * 0.6
        want = -integral - math.log(-math.expm1(-integral))
    assert fed == pytest.approx(want, rel=1e-12)


def gaussian(spec, mean=0.5, spread=0.25):
    """The exact network of data N(mean, spread²), from its own formula of the SDE."""

    def network(x, t, _):
        decay = 0.5 * 19.9 * t.astype(float) ** 2 + 0.1 * t.astype(float)
        alpha, sigma = np.exp(-decay / 2)[:, None], np.sqrt(-np.expm1(-decay))[:, None]
        return sigma * (x - alpha * mean) / (alpha**2 * spread**2 + sigma**2)

    return Engine(NumpyDenoiser(spec, network))


@pytest.mark.parametrize("grid", ["trailing", "karras"])
def test_runs_follow_the_flow_of_the_function_itself(grid):
    spec = DenoiserSpec(
        shape=(8,),
        schedule=ContinuousVPSchedule(),
        prediction="epsilon",
        time=TimeInput(kind="unit"),
        grid=grid,
        batch=(1, 8),
    )
    z = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    sigma_1 = math.sqrt(-math.expm1(-10.05))
    alpha_1 = math.exp(-10.05 / 2)
    width = math.hypot(alpha_1 * 0.25, sigma_1)
    want = 0.5 + 0.25 * (sigma_1 * z - alpha_1 * 0.5) / width
    got = gaussian(spec).sample(noise=z, steps=400, sampler="dpmpp_2m", seed=0).x
    assert np.abs(got - want).max() < 1e-3


@pytest.mark.parametrize(
    "fields",
    [
        {"curve": "quadratic"},
        {"beta_min": 20.0, "beta_max": 0.1},
        {"beta_max": math.inf},
        {"s": 0.0},
        {"start": 3.0, "end": -3.0},
        {"tau": -1.0},
        {"steps": 1},
    ],
)
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=r"curve|beta_min|steps"):
        ContinuousVPSchedule(**fields)
    with pytest.raises(TypeError, match="tau must be a number"):
        ContinuousVPSchedule(tau="warm")


def test_levels_and_times_outside_are_refused():
    with pytest.raises(ValueError, match=r"lies in \[0, 1\]"):
        ContinuousVPSchedule().alpha_sigma(1.5)
    with pytest.raises(ValueError, match="outside of this schedule, 0 to 152"):
        ContinuousVPSchedule().from_level(160.0)


def denoising_diffusion_pytorch(steps, start, end, tau):
    """Its table, from the written formula."""

    def logistic(v):
        return 1.0 / (1.0 + math.exp(-v))

    high, low = logistic(end / tau), logistic(start / tau)
    abar = [
        (high - logistic((i / steps * (end - start) + start) / tau)) / (high - low)
        for i in range(steps + 1)
    ]
    return [min(1.0 - b / a, 0.999) for a, b in itertools.pairwise(abar)]


@pytest.mark.parametrize("arguments", [(-3, 3, 1.0), (0, 3, 0.7)])
def test_the_sigmoid_of_denoising_diffusion_pytorch_is_its_own(arguments):
    start, end, tau = arguments
    ours = VPSchedule.sigmoid(200, start=start, end=end, tau=tau)
    want = denoising_diffusion_pytorch(200, start, end, tau)
    np.testing.assert_allclose(ours.trained_betas, want, rtol=1e-9)
    assert schedule_from_dict(json.loads(json.dumps(ours.to_dict()))) == ours
    with pytest.raises(ValueError, match="start < end"):
        VPSchedule.sigmoid(start=3, end=-3)


def test_the_two_sigmoids_are_distinguished():
    """diffusers' has its betas along the curve, so other noise levels at every index."""
    theirs, pytorchs = VPSchedule(betas="sigmoid"), VPSchedule.sigmoid()
    assert pytorchs.level(499.0) == pytest.approx(1.0, rel=1e-9)
    assert theirs.level(499.0) == pytest.approx(1.52, rel=0.01)
    assert theirs.level(100.0) < 0.7 * pytorchs.level(100.0)
