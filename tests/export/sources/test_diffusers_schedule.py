"""The grid that a scheduler's config becomes; diffusers' scheduler itself is the oracle."""

import json

import diffusers
import numpy as np
import pytest
import torch

from revstep import DenoiserSpec, TimeInput
from revstep.engine.errors import ExportError
from revstep.engine.program.steps import steps_over
from revstep.export.sources.diffusers_schedule import EDM_SCHEDULERS, read_scheduler

pytest.importorskip("scipy")  # of beta sigmas

# diffusers' own, on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

TABLE_ROUNDING = 5e-4  # of diffusers' float32 alphas_cumprod
PROTEINA = {"schedule_mode": "log", "noise_mode": "tan", "tsr_k": 1.0, "tsr_sigma": 1.0}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


def made(name, **changes):
    """(diffusers' scheduler, the spec that its saved config becomes)."""
    scheduler = getattr(diffusers, name)(**changes)
    sampling = read_scheduler(json.loads(scheduler.to_json_string()))
    time = TimeInput(kind=sampling.time_kind, fractions=True)
    spec = DenoiserSpec(shape=(2,), time=time, **sampling.spec_fields)
    return scheduler, DenoiserSpec.from_dict(json.loads(json.dumps(spec.to_dict())))


@pytest.mark.parametrize("noise", ["karras", "exponential", "beta"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DPMSolverMultistepScheduler", {}),
        ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min"}),
        ("DPMSolverSinglestepScheduler", {}),
        ("DEISMultistepScheduler", {}),
        ("UniPCMultistepScheduler", {"sigma_min": 0.05, "sigma_max": 12.0}),
        ("EulerDiscreteScheduler", {"timestep_spacing": "linspace"}),
        ("EulerDiscreteScheduler", {"sigma_min": 0.03, "sigma_max": 30.0}),
    ],
)
def test_noise_grids_of_a_config_are_diffusers(name, settings, noise):
    settings = {"beta_schedule": "scaled_linear", f"use_{noise}_sigmas": True, **settings}
    if name == "DPMSolverSinglestepScheduler":
        settings["solver_order"] = 1
    scheduler, spec = made(name, **settings)
    for steps in (3, 20):
        scheduler.set_timesteps(steps)
        pairs = steps_over(spec, steps)
        got = [now.level for now, _ in pairs]
        np.testing.assert_allclose(got, scheduler.sigmas[:steps].numpy(), rtol=TABLE_ROUNDING)
        if name != "DEISMultistepScheduler":  # whose last level is that of its last call
            end = float(scheduler.sigmas[-1])
            assert pairs[-1][1].level == pytest.approx(end, rel=TABLE_ROUNDING)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_a_noise_grid_over_another_spacing_has_its_ends(spacing):
    options = {"use_karras_sigmas": True, "timestep_spacing": spacing, "steps_offset": 1}
    scheduler, spec = made("EulerDiscreteScheduler", **options)
    for steps in (3, 20):
        scheduler.set_timesteps(steps)
        got = [now.level for now, _ in steps_over(spec, steps)]
        np.testing.assert_allclose(got, scheduler.sigmas[:steps].numpy(), rtol=TABLE_ROUNDING)


@pytest.mark.parametrize(
    "settings",
    [
        {"shift": 1.0},
        {"shift": 3.0},
        {"shift": 6.0, "shift_terminal": 0.1},
        {"shift": 3.0, "use_karras_sigmas": True},
        {"use_exponential_sigmas": True, "shift_terminal": 0.1},
        {"use_beta_sigmas": True},
    ],
)
def test_a_flow_scheduler_gives_its_own_times(settings):
    scheduler, spec = made("FlowMatchEulerDiscreteScheduler", **settings)
    for steps in (2, 9, 28):
        scheduler.set_timesteps(steps)
        pairs = steps_over(spec, steps)
        got = [now.sigma for now, _ in pairs]
        np.testing.assert_allclose(got, scheduler.sigmas[:-1].numpy(), rtol=3e-5)
        got = [now.time for now, _ in pairs]
        np.testing.assert_allclose(got, scheduler.timesteps.numpy(), rtol=3e-5)
        assert pairs[-1][1].sigma == scheduler.sigmas[-1] == 0.0


@pytest.mark.parametrize("shift", [1.0, 5.0])
@pytest.mark.parametrize(
    "name",
    ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"],
)
def test_flow_sigmas_of_a_vp_scheduler_are_its_own(name, shift):
    scheduler, spec = made(name, flow_shift=shift, **FLOW)
    assert (spec.schedule.kind, spec.prediction) == ("flow", "flow")
    for steps in (4, 25):
        scheduler.set_timesteps(steps)
        got = [now.sigma for now, _ in steps_over(spec, steps)]
        np.testing.assert_allclose(got, scheduler.sigmas[:-1].numpy(), rtol=2e-6)


@pytest.mark.parametrize("name", EDM_SCHEDULERS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sigma_schedule": "exponential", "sigma_max": 120.0},
        {"sigma_min": 0.01, "rho": 5.0, "sigma_data": 1.0, "final_sigmas_type": "sigma_min"},
        {"prediction_type": "v_prediction"},
    ],
)
def test_an_edm_scheduler_gives_its_schedule_and_preconditioning(name, settings):
    scheduler, spec = made(name, **settings)
    prediction = "edm_v" if "prediction_type" in settings else "edm"
    assert (spec.prediction, spec.time.kind) == (prediction, "log_sigma")
    for steps in (2, 18):
        scheduler.set_timesteps(steps)
        pairs = steps_over(spec, steps)
        got = [now.sigma for now, _ in pairs]
        np.testing.assert_allclose(got, scheduler.sigmas[:-1].numpy(), rtol=3e-6)
        got = [now.time for now, _ in pairs]
        np.testing.assert_allclose(got, scheduler.timesteps.numpy(), rtol=3e-6, atol=3e-6)
        assert pairs[-1][1].sigma == pytest.approx(float(scheduler.sigmas[-1]), rel=1e-6)
    from revstep.engine.spec.prediction import x0_coefficients

    x, m, sigma = torch.tensor(0.7), torch.tensor(-0.4), 1.3
    p_x, p_m = x0_coefficients(prediction, 1.0, sigma, sigma_data=spec.sigma_data)
    want = float(scheduler.precondition_outputs(x, m, torch.tensor(sigma)))
    assert p_x * 0.7 + p_m * -0.4 == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("DDIMScheduler", {"thresholding": True}, "thresholding=True, .*percentile.*clip=True"),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, r"flow_shift\(tokens"),
        ("UniPCMultistepScheduler", {"use_dynamic_shifting": True, **FLOW}, "and flow_shift to"),
        ("FlowMatchEulerDiscreteScheduler", {"invert_sigmas": True}, "invert_sigmas=True"),
        ("UniPCMultistepScheduler", {"use_karras_sigmas": True, **FLOW}, "use_flow_sigmas with"),
        ("DPMSolverMultistepScheduler", {"final_sigmas_type": "sigma_min", **FLOW}, "'sigma_min'"),
        ("DPMSolverMultistepScheduler", {"use_flow_sigmas": True}, "'flow_prediction'"),
        ("SCMScheduler", {"prediction_type": "epsilon"}, "'epsilon'; allowed: 'trigflow'"),
        ("FlowMatchLCMScheduler", {"scale_factors": [0.5, 1.0]}, "scale_factors"),
        ("IPNDMScheduler", {"trained_betas": [0.5] * 1001}, "trained_betas.*sigmas of one run"),
        ("PiflowScheduler", {}, "substeps"),
        ("RFD4ProteinaScheduler", PROTEINA, "two states"),
        ("EulerDiscreteScheduler", {"interpolation_type": "log_linear"}, "interpolation_type"),
        ("DDPMScheduler", {"variance_type": "learned"}, "'learned_range'"),
        ("FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 500}, "num_train_timesteps"),
    ],
)
def test_what_a_spec_cannot_say_is_refused(name, changes, message):
    scheduler = getattr(diffusers, name)(**changes)
    with pytest.raises(ExportError, match=message):
        read_scheduler(json.loads(scheduler.to_json_string()))


def test_trigflows_two_steps_are_its_schedulers():
    scheduler, spec = made("SCMScheduler")
    assert spec == DenoiserSpec.trigflow((2,), time=spec.time, grid=spec.grid)
    scheduler.set_timesteps(2)
    pairs = steps_over(spec)
    got = [pairs[0][0].time, *(then.t for _, then in pairs)]
    np.testing.assert_allclose(got, scheduler.timesteps.numpy(), atol=4e-6)  # 1.5708 is no pi/2
    scheduler.set_timesteps(4, intermediate_timesteps=None)
    got = [now.time for now, _ in steps_over(spec, 4, "trailing")]
    np.testing.assert_allclose(got, scheduler.timesteps[:-1].numpy(), atol=4e-6)


@pytest.mark.parametrize("kind", ["exponential", "karras"])
def test_stable_audios_levels_are_fed_as_angles(kind):
    """Its class needs torchsde: the levels are those of its two formulas."""
    config = {"_class_name": "CosineDPMSolverMultistepScheduler", "sigma_schedule": kind}
    read = read_scheduler(config)
    spec = DenoiserSpec(shape=(2,), time=TimeInput(kind=read.time_kind), **read.spec_fields)
    ramp = np.linspace(0.0, 1.0, 9)
    want = {
        "exponential": 500.0 * (0.3 / 500.0) ** ramp,
        "karras": (500.0 ** (1 / 7) + ramp * (0.3 ** (1 / 7) - 500.0 ** (1 / 7))) ** 7,
    }[kind]
    pairs = steps_over(spec, 9)
    np.testing.assert_allclose([now.sigma / now.alpha for now, _ in pairs], want, rtol=1e-12)
    np.testing.assert_allclose([now.time for now, _ in pairs], np.arctan(want) / np.pi * 2)
    assert pairs[-1][1].sigma == 0.0


@pytest.mark.parametrize("name", ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"])
def test_cogvideox_has_its_own_levels_and_clips_nothing(name):
    """clip_sample is True by default, and those schedulers don't look at it."""
    scheduler, spec = made(name, rescale_betas_zero_snr=True, prediction_type="v_prediction")
    np.testing.assert_allclose(spec.schedule.alphas_cumprod, scheduler.alphas_cumprod, rtol=1e-9)
    assert spec.schedule.alphas_cumprod[-1] == 0.0
    assert (spec.clip, spec.value_range) == (False, None)
