"""Programs that would give broken samples say so when they are built, and no others do."""

import dataclasses
import re

import numpy as np
import pytest
from networks import NumpyDenoiser

from revstep import DenoiserSpec, Engine, TimeInput, build_program
from revstep.engine.program.warn import error_gains
from revstep.grids import KarrasGrid
from revstep.kernels import columns as col
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

COSINE = VPSchedule(betas="squaredcos_cap_v2")
SD = VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012)
GROWTH, REPEATS = "times as large in the samples", "that another call feeds"
SHARE = 0.01  # an error that a good network has


def spec_of(schedule, prediction="epsilon", **fields):
    return DenoiserSpec(
        **{"shape": (1,), "schedule": schedule, "prediction": prediction, "batch": (1, 4096)}
        | fields
    )


def noisy(spec, error=SHARE, mean=1.0, spread=0.5):
    """The exact noise of data N(mean, spread²), and an error of so many parts of it."""

    def network(x, t, _):
        alpha, sigma = (c[:, None] for c in spec.schedule.alpha_sigma(t.astype(float)))
        exact = sigma * (x - alpha * mean) / (alpha**2 * spread**2 + sigma**2)
        return exact + error * np.sin(3.0 * x.astype(float) + 0.5)

    return Engine(NumpyDenoiser(spec, network))


def deviation(spec, error, **options):
    return float(noisy(spec, error).sample(4000, seed=0, **options).x.std())


@pytest.mark.parametrize("prediction", ["epsilon", "score", "mean"])
@pytest.mark.parametrize(
    "name", ["ddim", "ddpm", "euler", "dpmpp_2m", "dpmpp_3m_sde", "unipc", "lms", "ipndm"]
)
def test_an_error_that_grows_is_warned_of_by_every_sampler(name, prediction, caplog):
    build_program(spec_of(COSINE, prediction), name, 10)
    assert GROWTH in caplog.text
    assert "call 1 of the network is at noise level sigma / alpha = 2.029e+04" in caplog.text


FIXES = [{"grid": "leading"}, {"grid": KarrasGrid(sigma_max=80.0)}]


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("fix", [{}, *FIXES], ids=["default", "leading", "karras"])
def test_the_warning_is_true_and_so_are_its_fixes(name, fix, caplog):
    found = deviation(spec_of(COSINE), SHARE, sampler=name, steps=10, **fix)
    assert (GROWTH in caplog.text) == (not fix) == (found > 5.0)
    assert fix or "KarrasGrid(sigma_max=80) or 'leading'" in caplog.text
    if fix:
        assert found == pytest.approx(
            deviation(spec_of(COSINE), 0.0, sampler=name, steps=10, **fix), rel=0.02
        )


def test_clipping_is_a_fix_too(caplog):
    spec = spec_of(COSINE, value_range=(-1.5, 2.5), clip=True)
    assert deviation(spec, SHARE, steps=10) == pytest.approx(0.43, abs=0.05)
    assert GROWTH not in caplog.text


@pytest.mark.parametrize(
    ("schedule", "name", "steps", "grid"),
    [
        (COSINE, "ddim", 200, "trailing"),
        (COSINE, "ddim", 1000, "trailing"),
        (COSINE, "ddpm", 50, "trailing"),
        (COSINE, "ddpm", 10, "trailing"),
        (VPSchedule(), "ddim", 1, "trailing"),
        (VPSchedule(), "dpmpp_2m", 10, "trailing"),
        (VPSchedule(beta_end=0.03), "ddim", 2, "karras"),
        (SD, "ddim", 1, "trailing"),
    ],
)
def test_it_is_warned_of_where_one_percent_shows_and_nowhere_else(
    schedule, name, steps, grid, caplog
):
    """Where an error of 1 % takes the samples' deviation off by a third of the data's."""
    options = {"sampler": name, "steps": steps, "grid": grid}
    spec = spec_of(schedule)
    off = abs(deviation(spec, SHARE, **options) - deviation(spec, 0.0, **options))
    assert (GROWTH in caplog.text) == (off > 0.5 / 3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "score"])
@pytest.mark.parametrize("name", ["ddim", "dpmpp_3m", "unipc", "heun", "pndm", "reverse_sde"])
def test_the_gain_is_what_an_error_of_one_call_does(name, prediction):
    """Two runs on the exact network of N(0, 1), one of them with an error in one call."""
    spec = spec_of(SD, prediction, batch=(1, 1))
    program = build_program(spec, name, 6)
    gains = error_gains(spec, program.rows, program.points)
    assert len(gains) == program.length
    for wrong in (0, 2, program.length - 1):
        found = []
        for error in (0.0, 0.25):
            calls = []

            def network(x, t, _, error=error, calls=calls, wrong=wrong):
                alpha, sigma = spec.schedule.alpha_sigma(t.astype(float))
                x0, eps = alpha * x[:, 0], sigma * x[:, 0]
                eps_error = error * (len(calls) == wrong)
                calls.append(t)
                return {
                    "epsilon": eps + eps_error,
                    "score": -(eps + eps_error) / sigma,
                    "sample": x0 + eps_error,
                    "v_prediction": alpha * eps - sigma * x0 + eps_error,
                }[prediction][:, None]

            engine = Engine(NumpyDenoiser(spec, network))
            found.append(float(engine.sample(1, seed=3, sampler=name, steps=6).x[0, 0]))
        assert abs(found[1] - found[0]) / 0.25 == pytest.approx(gains[wrong], rel=2e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "ddpm"])
def test_the_gain_of_an_error_of_the_noise_is_that_of_every_way_to_say_it(name):
    gains = []
    for prediction in ("epsilon", "score", "mean"):
        spec = spec_of(SD, prediction)
        program = build_program(spec, name, 12)
        gains.append(error_gains(spec, program.rows, program.points))
    np.testing.assert_allclose(gains[1], gains[0], rtol=1e-9)
    np.testing.assert_allclose(gains[2], gains[0], rtol=1e-6)


UNIT = TimeInput(kind="unit", fractions=True)
SOUND = [
    spec_of(SD),
    spec_of(VPSchedule()),
    spec_of(VPSchedule(betas="sigmoid")),
    spec_of(COSINE, "v_prediction"),
    spec_of(COSINE, value_range=(-1.0, 1.0), clip=True),
    spec_of(VPSchedule(zero_terminal_snr=True), "v_prediction"),
    spec_of(VESchedule(), time=TimeInput(kind="sigma")),
    spec_of(VESchedule(), "score", time=TimeInput(kind="sigma")),
    spec_of(FlowSchedule(), "flow", time=UNIT),
    DenoiserSpec.edm((1,)),
]


@pytest.mark.parametrize("name", ["ddim", "ddpm", "dpmpp_2m", "unipc"])
@pytest.mark.parametrize("spec", SOUND, ids=lambda s: f"{s.schedule.kind}-{s.prediction}")
def test_common_setups_are_not_warned_of(name, spec, caplog):
    zero = spec.schedule.kind == "vp" and spec.schedule.zero_terminal_snr
    for steps in (4, 20):
        for grid in ("trailing", "leading", "linspace", "karras"):
            if grid == "karras" and (zero or spec.schedule == COSINE):
                continue  # their indices are fed far from their level
            build_program(spec, name, steps, grid=grid)
    assert not caplog.records


def fed_twice(program):
    """Whether the rows tell the network one time where its state is at two noise levels."""
    levels: dict[float, set[float]] = {}
    for row, at in zip(program.rows, program.points[:-1], strict=False):
        ratio = at.sigma / at.alpha if at.alpha else np.inf
        levels.setdefault(float(row[col.TIME]), set()).add(float(f"{ratio:.5g}"))
    return any(len(found) > 1 for found in levels.values())


@pytest.mark.parametrize("schedule", [COSINE, SD, VPSchedule()], ids=["cosine", "sd", "linear"])
@pytest.mark.parametrize("grid", ["karras", "exponential", "beta", "logsnr_uniform", "trailing"])
@pytest.mark.parametrize("steps", [12, 30, 60])
def test_an_index_fed_twice_is_warned_of(schedule, grid, steps, caplog):
    """Karras grids on squared-cosine betas repeat whole indices, at both ends."""
    spec = spec_of(schedule, "v_prediction")
    program = build_program(spec, "dpmpp_2m", steps, grid=grid)
    warned = REPEATS in caplog.text or "the nearest one is of level" in caplog.text
    assert warned or not fed_twice(program)
    assert REPEATS not in caplog.text or fed_twice(program)
    if fed_twice(program):
        caplog.clear()
        free = dataclasses.replace(spec, time=TimeInput(fractions=True))
        build_program(free, "dpmpp_2m", steps, grid=grid)
        assert not caplog.records


def test_the_warning_names_the_index_and_its_levels(caplog):
    build_program(spec_of(SD), "dpmpp_2m", 50, grid="karras")
    assert "1 of its 50 calls" in caplog.text
    assert "as 1 for 0.04339 and for 0.03568" in caplog.text


@pytest.mark.parametrize(
    ("schedule", "grid", "steps"),
    [
        (SD, "karras", 50),
        (SD, "karras", 200),
        (SD, "exponential", 60),
        (VPSchedule(), "karras", 100),
    ],
)
def test_the_warning_says_how_far_off_samples_are_at_most(schedule, grid, steps, caplog):
    """Against the same network fed the fractions, on data of size 1."""
    spec = spec_of(schedule)
    free = dataclasses.replace(spec, time=TimeInput(fractions=True))
    options = {"sampler": "dpmpp_2m", "steps": steps, "grid": grid}
    found = noisy(spec, 0.0).sample(200, seed=0, **options).x
    bound = re.search(r"samples may be off by up to ([0-9.e-]+), where", caplog.text)
    assert bound is not None
    right = noisy(free, 0.0).sample(200, seed=0, **options).x
    assert 0.0 < np.abs(found - right).max() < float(bound[1]) < 0.1


def test_points_that_are_called_again_are_no_repeats(caplog):
    for name in ("heun", "pndm", "langevin", "predictor_corrector", "repaint"):
        build_program(spec_of(SD, "v_prediction"), name, 20, grid="trailing")
    assert REPEATS not in caplog.text
