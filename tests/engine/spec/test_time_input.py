"""What a network is fed of the noise level, where it is fed one."""

import dataclasses

import numpy as np
import pytest
from networks import NumpyDenoiser
from specs import spec_of

from revstep import DenoiserSpec, Engine, TimeInput, build_program
from revstep.engine.program.points import point
from revstep.grids import KarrasGrid
from revstep.schedules import FlowSchedule, VPSchedule

VP = spec_of(shape=(2,))
FLOW = dataclasses.replace(VP, schedule=FlowSchedule(steps=40), prediction="flow")


@pytest.mark.parametrize("index", [0, 37, 600, 999])
def test_a_vp_network_is_fed_the_noise_level_of_k_diffusion(index):
    """sigma / alpha, from the betas themselves; sqrt(1 - abar) is another number."""
    abar = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[: index + 1])
    want = {
        "sigma": np.sqrt((1 - abar) / abar),
        "log_sigma": np.log((1 - abar) / abar) / 8,
        "log_snr": np.log(abar / (1 - abar)),
        "angle": np.arccos(np.sqrt(abar)),
    }
    for kind, fed in want.items():
        spec = dataclasses.replace(VP, time=TimeInput(kind=kind))
        assert point(spec, float(index)).time == pytest.approx(fed, rel=1e-9)


@pytest.mark.parametrize("kind", ["sigma", "log_sigma", "log_snr", "angle"])
def test_networks_that_are_fed_a_level_are_fed_any_on_any_grid(kind, caplog):
    """No rounding to training indices, and no warning of it."""
    spec = dataclasses.replace(
        VP, schedule=VPSchedule(betas="squaredcos_cap_v2"), time=TimeInput(kind=kind)
    )
    calls = build_program(spec, "dpmpp_2m", 30, grid=KarrasGrid(sigma_max=80.0)).points[:-1]
    ramp = np.linspace(80.0 ** (1 / 7), calls[-1].level ** (1 / 7), 30) ** 7
    want = {
        "sigma": ramp,
        "log_sigma": np.log(ramp) / 4,
        "log_snr": -2 * np.log(ramp),
        "angle": np.arctan(ramp),
    }[kind]
    np.testing.assert_allclose([p.time for p in calls], want, rtol=1e-9)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["sigma", "log_sigma", "log_snr"])
def test_an_infinite_level_at_the_last_training_index_is_refused(kind):
    with pytest.raises(ValueError, match=f"{kind!r} can't be fed the last training index"):
        dataclasses.replace(
            VP, schedule=VPSchedule(zero_terminal_snr=True), time=TimeInput(kind=kind)
        )
    if kind == "log_snr":
        with pytest.raises(ValueError, match="can't be fed the last training index"):
            dataclasses.replace(FLOW, time=TimeInput(kind=kind))
    else:
        assert point(dataclasses.replace(FLOW, time=TimeInput(kind=kind)), 1.0).time in (0.0, 1.0)


def network(x, t):
    """A network that is fed log(sigma) / 4."""
    return 0.2 * x - 0.5 * np.tanh(2 * x + np.sin(3 * t)[:, None])


@pytest.mark.parametrize("steps", [4, 11])
def test_log_sigma_is_what_stable_video_diffusions_scheduler_feeds(steps):
    """A whole run of it: sigmas to 700, continuous timesteps."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    z = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    scheduler = diffusers.EulerDiscreteScheduler(
        prediction_type="v_prediction", timestep_type="continuous", use_karras_sigmas=True,
        sigma_min=0.002, sigma_max=700.0, timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    x = torch.from_numpy(z) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        m = network(scheduler.scale_model_input(x, t).numpy(), np.full(3, float(t), np.float32))
        x = scheduler.step(torch.from_numpy(m), t, x).prev_sample
    spec = DenoiserSpec(
        shape=(6,),
        prediction="v_prediction",
        grid="karras",
        schedule=VPSchedule.from_sigmas(np.geomspace(0.002, 700, 1000)),
        time=TimeInput(kind="log_sigma"),
    )
    fed = [p.time for p in build_program(spec, "euler", steps).points[:-1]]
    np.testing.assert_allclose(fed, scheduler.timesteps.numpy(), rtol=1e-5, atol=1e-5)
    engine = Engine(NumpyDenoiser(spec, lambda x, t, _: network(x, t)))
    got = engine.sample(noise=z, steps=steps, sampler="euler", compat="diffusers").x
    np.testing.assert_allclose(got, x.numpy(), atol=1e-5)
