"""Inversion: against the exact flow of a Gaussian, diffusers, and the way back."""

import itertools

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon

from revstep import Condition, DenoiserSpec, Engine, TimeInput
from revstep.grids import LinspaceGrid
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

MEAN, SPREAD = 0.5, 0.25
SHAPE = (1, 3, 4)
VP = {"schedule": VPSchedule(), "time": TimeInput()}
SPECS = {
    "epsilon": VP,
    "sample": VP,
    "v_prediction": {**VP, "schedule": VPSchedule(zero_terminal_snr=True)},
    "score": VP,
    "mean": VP,
    "flow": {"schedule": FlowSchedule(), "time": TimeInput(kind="unit", fractions=True)},
    "edm": {"schedule": VESchedule(), "time": TimeInput(kind="sigma", fractions=True)},
}


def make_spec(prediction="epsilon", **fields):
    return DenoiserSpec(
        **{
            "shape": SHAPE,
            "prediction": prediction,
            "batch": (1, 8),
            **SPECS[prediction],
            **fields,
        }
    )


def exact_network(spec):
    """The exact network of data N(MEAN, SPREAD²) for any prediction."""

    def network(x, t, conditions):
        x, t = np.asarray(x, np.float64), float(t[0])
        schedule = spec.schedule
        if spec.prediction == "edm":
            x = x * np.sqrt(t**2 + 0.25)
        if spec.prediction == "flow":
            alpha, sigma = 1.0 - t, t
        else:
            alpha, sigma = (float(v) for v in schedule.alpha_sigma(t))
        score = -(x - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2)
        eps = -sigma * score
        x0 = MEAN + SPREAD**2 * alpha * (x - alpha * MEAN) / (alpha**2 * SPREAD**2 + sigma**2)
        match spec.prediction:
            case "epsilon":
                return eps
            case "score":
                return score
            case "sample":
                return x0
            case "flow":
                return eps - x0
            case "v_prediction":
                return alpha * eps - sigma * x0
            case "edm":
                norm = sigma**2 + 0.25
                return (x0 - 0.25 / norm * x) / (sigma * 0.5 / np.sqrt(norm))
            case "mean":
                a, s = (float(v) for v in schedule.alpha_sigma(t - 1 if t >= 1 else -1.0))
                r = alpha / a
                beta = sigma**2 - r**2 * s**2
                return a * beta / sigma**2 * x0 + r * s**2 / sigma**2 * x

    return network


def make_engine(prediction="epsilon", **fields):
    spec = make_spec(prediction, **fields)
    return Engine(NumpyDenoiser(spec, exact_network(spec)))


def data(n=4):
    return np.random.default_rng(1).normal(MEAN, SPREAD, (n, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("prediction", SPECS)
def test_the_noise_converges_to_the_exact_flows(prediction):
    """The probability flow of a Gaussian is the affine map between its marginals."""
    engine, x0 = make_engine(prediction), data()
    spec, errors = engine.spec, []
    for steps in (80, 320):
        alpha, sigma = spec.schedule.alpha_sigma(spec.schedule.from_index(spec.schedule.steps - 1))
        width = np.sqrt(alpha**2 * SPREAD**2 + sigma**2)
        want = (alpha * MEAN + width * (x0 - MEAN) / SPREAD) / sigma
        got = engine.invert(x0, steps=steps)
        assert got.dtype == np.float32
        assert got.shape == x0.shape
        errors.append(np.abs(got - want).max())
    assert errors[1] < 0.35 * errors[0]  # DDIM is first order: a quarter
    assert errors[1] < 0.06


@pytest.mark.parametrize(("iterations", "order"), [(0, 0.7), (1, 1.8)])
@pytest.mark.parametrize("prediction", SPECS)
def test_ddim_gives_the_data_back_and_better_with_steps(prediction, iterations, order):
    engine, x0, errors = make_engine(prediction), data(), []
    counts = (40, 80, 160, 320)
    for steps in counts:
        noise = engine.invert(x0, steps=steps, iterations=iterations)
        errors.append(np.abs(engine.sample(noise=noise, steps=steps, seed=0).x - x0).max())
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope < -order
    assert errors[-1] < (0.03 if iterations == 0 else 0.001)


@pytest.mark.parametrize("prediction", SPECS)
def test_iterations_undo_ddims_own_steps(prediction):
    engine, x0 = make_engine(prediction), data()
    errors = []
    for iterations in (0, 1, 30):
        noise = engine.invert(x0, steps=40, iterations=iterations)
        errors.append(np.abs(engine.sample(noise=noise, steps=40, seed=0).x - x0).max())
    assert errors[1] < errors[0]
    assert errors[2] < 1e-4


@pytest.mark.parametrize("final", ["clean", "first"])
@pytest.mark.parametrize("grid", ["trailing", "leading"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_compat_is_diffusers_inverse_scheduler(prediction, grid, final):
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    spec = make_spec(prediction, schedule=VPSchedule(), grid=grid, final=final)
    network = exact_network(spec)
    scheduler = diffusers.DDIMInverseScheduler(
        prediction_type=prediction,
        timestep_spacing=grid,
        clip_sample=False,
        set_alpha_to_one=final == "clean",
    )
    scheduler.set_timesteps(14)
    x0 = data()
    x = torch.from_numpy(x0.astype(np.float64))
    for t in scheduler.timesteps:
        m = network(x.numpy(), np.full(len(x), float(t)), {})
        x = scheduler.step(torch.from_numpy(m), t, x).prev_sample
    first = float(scheduler.timesteps[-1])
    _, sigma = spec.schedule.alpha_sigma(first)
    got = Engine(NumpyDenoiser(spec, network)).invert(x0, steps=14, compat="diffusers")
    np.testing.assert_allclose(got, x.numpy() / float(sigma), atol=2e-5)


def test_the_explicit_walk_is_the_written_formula():
    """Eq. 13 of DDIM from data to noise, in float64; the first call is where its step arrives."""
    spec, steps = make_spec(), 9
    network, x0 = exact_network(spec), data(2)
    abar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    times = [round(1000 - k * 1000 / steps) - 1 for k in reversed(range(steps))]
    x = np.sqrt(abar[times[0]]) * x0.astype(np.float64)
    x = x + np.sqrt(1 - abar[times[0]]) * network(x, [times[0]], {})
    for t, s in itertools.pairwise(times):
        eps = network(x, [t], {})
        x = np.sqrt(abar[s]) * (x - np.sqrt(1 - abar[t]) * eps) / np.sqrt(abar[t])
        x = x + np.sqrt(1 - abar[s]) * eps
    got = Engine(NumpyDenoiser(spec, network)).invert(x0, steps=steps, iterations=0)
    np.testing.assert_allclose(got, x / np.sqrt(1 - abar[-1]), atol=2e-5)


@pytest.mark.parametrize("strength", [0.3, 0.75, 1.0])
def test_part_of_the_way_goes_back_through_start_and_strength(strength):
    engine, x0 = make_engine(), data()
    noise = engine.invert(x0, steps=40, strength=strength, iterations=20)
    back = engine.sample(start=x0, strength=strength, noise=noise, steps=40, seed=0)
    assert back.calls == np.ceil(40 * strength)
    assert np.abs(back.x - x0).max() < 1e-4


@pytest.mark.parametrize(("iterations", "calls"), [(0, 12), (1, 12), (3, 36)])
def test_the_network_is_called_as_often_as_said(iterations, calls):
    spec = make_spec()
    network = NumpyDenoiser(spec, exact_network(spec))
    done = []
    Engine(network).invert(
        data(11), steps=12, iterations=iterations, progress=lambda k, n: done.append((k, n))
    )
    assert network.rows == [8] * calls + [3] * calls
    assert done[-1] == (2 * calls, 2 * calls)


def test_a_noisy_end_of_the_grid_is_where_the_walk_begins():
    engine, x0 = make_engine(final="first"), data()
    for iterations in (0, 20):
        noise = engine.invert(x0, steps=60, iterations=iterations)
        back = engine.sample(noise=noise, steps=60, seed=0).x
        assert np.abs(back - x0).max() < (0.15 if iterations == 0 else 1e-4)


def test_conditions_and_guidance_take_part():
    spec = make_spec(conditions=(Condition(name="shift", null=0.0),))
    engine = Engine(NumpyDenoiser(spec, gaussian_epsilon(spec)))
    x0 = data()
    options = {"conditions": {"shift": [0.0, 0.2, 0.4, 0.6]}, "guidance": 1.5, "steps": 50}
    noise = engine.invert(x0, iterations=20, **options)
    assert np.abs(engine.sample(noise=noise, seed=0, **options).x - x0).max() < 1e-3
    plain = engine.sample(noise=noise, seed=0, steps=50).x
    assert np.abs(plain - x0).max() > 0.1


def test_the_noise_of_clipped_runs_leads_back():
    spec = make_spec(value_range=(-0.2, 1.2), clip=True)
    engine = Engine(NumpyDenoiser(spec, exact_network(spec)))
    x0 = np.clip(data(), -0.15, 1.15)
    noise = engine.invert(x0, steps=80, iterations=20)
    assert np.abs(engine.sample(noise=noise, steps=80, seed=0).x - x0).max() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"iterations": -1},
            ValueError,
            "iterations=-1 is out of range.* 0 to 100",
        ),
        ({"iterations": 1.0}, TypeError, "iterations must be a whole number"),
        ({"iterations": [1]}, TypeError, "iterations must be a whole number"),
        ({"strength": 0.0}, ValueError, r"\(0, 1\]"),
        ({"strength": "half"}, TypeError, "strength must be a number"),
        ({"steps": 0}, ValueError, "1 to 1000"),
        ({"compat": "k-diffusion"}, ValueError, "unknown compat"),
        ({"batch_size": 9}, ValueError, "1 to 8 with 1 network row"),
        ({"x0": np.zeros((2, 3))}, ValueError, r"x0 has shape \(2, 3\)"),
        ({"x0": None}, TypeError, "x0"),
    ],
)
def test_bad_arguments_are_refused_before_the_network_is_called(arguments, error, message):
    spec = make_spec()
    network = NumpyDenoiser(spec, exact_network(spec))
    x0 = arguments.pop("x0", data()) if "x0" in arguments else data()
    with pytest.raises(error, match=message):
        Engine(network).invert(x0, **arguments)
    assert network.rows == []


def test_a_network_that_knows_no_noise_at_zero_snr_is_refused_with_iterations():
    from revstep.errors import ProgramError

    spec = make_spec("epsilon", schedule=VPSchedule(zero_terminal_snr=True))
    with pytest.raises(ProgramError, match="alpha = 0"):
        Engine(NumpyDenoiser(spec, exact_network(spec))).invert(data(), iterations=2)


@pytest.mark.parametrize(
    ("prediction", "schedule"),
    [("flow", FlowSchedule()), ("v_prediction", VPSchedule(zero_terminal_snr=True))],
)
def test_one_step_to_where_alpha_is_zero_is_refused_with_what_to_do(prediction, schedule):
    from revstep.errors import ProgramError

    spec = make_spec(prediction, schedule=schedule)
    network = NumpyDenoiser(spec, exact_network(spec))
    with pytest.raises(ProgramError, match=r"alpha = 0.*steps=2 or more, or a grid"):
        Engine(network).invert(data(), steps=1)
    assert network.rows == []
    grid = LinspaceGrid(first=0.9 * (schedule.steps - 1))
    for fix in ({"steps": 2}, {"steps": 1, "grid": grid}):
        assert np.all(np.isfinite(Engine(network).invert(data(), **fix)))
