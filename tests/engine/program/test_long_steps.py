"""Steps over which a method breaks samples: warned of, and harmless where nothing is said."""

import dataclasses
import logging

import numpy as np
import pytest
from networks import NumpyDenoiser

from revstep import DenoiserSpec, Engine, TimeInput, build_program
from revstep.engine.program.samplers import make_sampler
from revstep.grids import ExponentialGrid, KarrasGrid
from revstep.schedules import VESchedule, VPSchedule

COSINE = VPSchedule(betas="squaredcos_cap_v2")  # its last noise level is 20,000
SPREAD = 0.2


def spec_of(schedule):
    return DenoiserSpec(shape=(64,), schedule=schedule, prediction="sample", value_range=(-1, 1))


def two_points(spec):
    """The exact x0 of data near -0.5 or 0.5, element by element."""

    def network(x, t, _):
        alpha, sigma = (c[:, None] for c in spec.schedule.alpha_sigma(t.astype(float)))
        variance = alpha**2 * SPREAD**2 + sigma**2
        shares = 1 / (1 + np.exp(np.clip(-alpha * x / variance, -500, 500)))
        centre = shares - 0.5
        return centre + alpha * SPREAD**2 / variance * (x - alpha * centre)

    return NumpyDenoiser(spec, network)


BROKEN = ("heun", "edm", "pndm", "dpm2_ancestral")


@pytest.mark.parametrize("name", BROKEN)
def test_a_step_too_far_is_warned_of_with_the_fix(name, caplog):
    build_program(spec_of(COSINE), name, 20)
    assert "goes from noise level sigma / alpha = 2.029e+04 to" in caplog.text
    assert "grid=KarrasGrid(sigma_max=80)" in caplog.text


@pytest.mark.parametrize("name", ["heun", "edm", "dpm2_ancestral"])
def test_a_step_too_far_that_ends_below_the_data_is_warned_of_too(name, caplog):
    spec = dataclasses.replace(spec_of(COSINE), time=TimeInput(fractions=True))
    samples = Engine(two_points(spec)).sample(8, sampler=name, steps=20, grid="beta", seed=0)
    assert "too far for it" in caplog.text
    assert np.std(samples.x) > 5.0


@pytest.mark.parametrize("name", BROKEN)
def test_few_steps_from_edms_level_are_warned_of(name, caplog):
    spec = DenoiserSpec(shape=(64,), schedule=VESchedule.edm(), prediction="edm")
    build_program(spec, name, 2, grid="karras")
    assert "Use more steps" in caplog.text


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize(
    ("schedule", "grid"),
    [(COSINE, KarrasGrid(sigma_max=80.0)), (VPSchedule(), None), (VPSchedule(), "karras")],
)
def test_the_fix_and_other_schedules_are_not_warned_of(name, schedule, grid, caplog):
    caplog.set_level(logging.WARNING)
    build_program(spec_of(schedule), make_sampler(name), 20, grid=grid)
    assert not caplog.records


@pytest.mark.parametrize(
    ("grid", "fractions", "warned"),
    [
        ("beta", False, True),
        ("karras", False, True),
        ("beta", True, False),
        ("trailing", False, False),
        (KarrasGrid(sigma_max=80.0), False, False),
    ],
)
def test_indices_that_are_fed_far_from_their_level_are_warned_of(grid, fractions, warned, caplog):
    spec = dataclasses.replace(spec_of(COSINE), time=TimeInput(fractions=fractions))
    build_program(spec, "dpmpp_2m", 20, grid=grid)
    assert ("the nearest one is of level" in caplog.text) == warned


@pytest.mark.parametrize("name", ["ddim", "dpm2", "dpmpp_2m", "dpmpp_2s", "unipc", "lms", "ipndm"])
def test_methods_without_a_warning_stay_within_the_data(name, caplog):
    engine = Engine(two_points(spec_of(COSINE)))
    x = engine.sample(32, sampler=name, steps=20, seed=0).x
    assert not caplog.records
    assert np.mean(np.abs(x) > 1.5) < 1e-3


@pytest.mark.parametrize(
    ("grid", "repeats", "warned"),
    [
        (None, 5, True),
        ("karras", 5, True),
        (ExponentialGrid(sigma_max=80.0), 5, False),
        (ExponentialGrid(sigma_max=80.0), 1, True),
        ("karras", 60, False),
    ],
)
def test_langevin_is_warned_of_where_too_much_noise_is_left(grid, repeats, warned, caplog):
    """Against the noise of runs on a single point, whose x0 is always known."""
    spec = spec_of(COSINE)
    spreads = []

    def network(x, *_):
        spreads.append(float(np.std(x)))
        return np.zeros_like(x)

    sampler = make_sampler("langevin", repeats=repeats)
    Engine(NumpyDenoiser(spec, network)).sample(64, sampler=sampler, steps=20, grid=grid, seed=0)
    points = build_program(spec, sampler, 20, grid=grid).points
    excess = max(  # of the state that each level leaves to the next call
        spreads[n] / points[n].alpha / points[n - 1].level
        for n in range(repeats, len(spreads), repeats)
    )
    assert (excess > 2.0) == warned
    assert ("times that noise" in caplog.text) == warned
