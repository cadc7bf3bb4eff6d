"""Which sampler a scheduler's config means."""

import json

import diffusers
import pytest

from revstep.engine.errors import ExportError
from revstep.engine.program.samplers import (
    DDIM,
    DDPM,
    DEIS,
    LMS,
    PNDM,
    TCD,
    CogVideoXDPM,
    Consistency,
    DPMSolverPP1S,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    FlowEulerAncestral,
    SASolver,
    UniPC,
)
from revstep.export import read_scheduler

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of dpmsolver
    pytest.mark.filterwarnings("ignore:__array:DeprecationWarning"),  # diffusers' own, on numpy 2
]
MULTI, SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC = "UniPCMultistepScheduler"
TO_FIRST = {"final_sigmas_type": "sigma_min"}


def config_of(name, **changes):
    return json.loads(getattr(diffusers, name)(**changes).to_json_string())


@pytest.mark.parametrize(
    ("name", "changes", "want"),
    [
        ("DDIMScheduler", {}, DDIM()),
        ("DDPMScheduler", {"variance_type": "fixed_large"}, DDPM("large")),
        ("DDPMScheduler", {"variance_type": "learned_range"}, DDPM("learned")),
        ("PNDMScheduler", {"skip_prk_steps": True}, PNDM()),
        ("LMSDiscreteScheduler", {}, LMS(order=4)),
        (MULTI, {}, DPMSolverPP2M()),
        (MULTI, {"solver_order": 3, "euler_at_final": True}, DPMSolverPP3M(euler_at_final=True)),
        (MULTI, {"solver_type": "heun"}, DPMSolverPP2M(second="heun")),
        (MULTI, {"algorithm_type": "sde-dpmsolver++"}, DPMSolverPP2M(eta=1.0)),
        (MULTI, {"lower_order_final": False}, DPMSolverPP2M(lower_order_final=False)),
        (MULTI, {"algorithm_type": "dpmsolver", "solver_order": 1, **TO_FIRST}, DPMSolverPP1S()),
        (SINGLE, {}, DPMSolverPP2S(lower_order_final=False)),
        (UNIPC, {"solver_order": 3, "solver_type": "bh1"}, UniPC(order=3, b="bh1")),
        (UNIPC, {"disable_corrector": [0, 1]}, UniPC(disable_corrector=(0, 1))),
        (
            "FlowMatchEulerDiscreteScheduler",
            {"stochastic_sampling": True},
            Consistency(sigma_min=0.0),
        ),
        ("DEISMultistepScheduler", {}, DEIS(order=2)),
        ("DEISMultistepScheduler", {"solver_order": 3, "lower_order_final": False}, DEIS(3, False)),
        ("SASolverScheduler", {}, SASolver()),
        (
            "SASolverScheduler",
            {"predictor_order": 3, "corrector_order": 4, "lower_order_final": False},
            SASolver(predictor=3, corrector=4, lower_order_final=False),
        ),
        ("TCDScheduler", {"original_inference_steps": 20}, TCD(original_steps=20)),
        ("UnCLIPScheduler", {}, DDPM()),
        ("UnCLIPScheduler", {"variance_type": "learned_range"}, DDPM("learned")),
        ("CogVideoXDDIMScheduler", {}, DDIM()),
        ("CogVideoXDPMScheduler", {}, CogVideoXDPM()),
        ("FlowMatchLCMScheduler", {"shift": 3.0}, Consistency(sigma_min=0.0)),
        ("LTXEulerAncestralRFScheduler", {"eta": 0.5}, FlowEulerAncestral(eta=0.5)),
        ("LTXEulerAncestralRFScheduler", {"s_noise": 0.9}, FlowEulerAncestral(scale=0.9)),
        ("SCMScheduler", {}, Consistency(sigma_min=0.0)),
    ],
)
def test_a_config_means_a_sampler_with_its_options(name, changes, want):
    assert read_scheduler(config_of(name, **changes)).sampler == want


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("PNDMScheduler", {}, "skip_prk_steps=False"),
        (MULTI, {"algorithm_type": "dpmsolver", **TO_FIRST}, "algorithm_type='dpmsolver'"),
        (MULTI, {"algorithm_type": "sde-dpmsolver", **TO_FIRST}, "'sde-dpmsolver'"),
        (SINGLE, {"solver_order": 3}, "solver_order=3"),
        (UNIPC, {"predict_x0": False}, "predict_x0=False"),
        (UNIPC, {"solver_order": 4}, "solver_order=4"),
        ("DEISMultistepScheduler", {"solver_order": 4}, "solver_order=4"),
        ("SASolverScheduler", {"algorithm_type": "noise_prediction"}, "'noise_prediction'"),
        ("SASolverScheduler", {"predictor_order": 4}, "predictor_order=4"),
        ("CogVideoXDPMScheduler", {"set_alpha_to_one": False}, "set_alpha_to_one=False"),
    ],
)
def test_a_config_without_a_sampler_is_warned_of_by_its_key(name, changes, key, caplog):
    assert read_scheduler(config_of(name, **changes)).sampler is None
    assert key in caplog.text
    assert "sampler='dpmpp_2m'" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver_order": 5}, "solver_order=5; allowed: 1, 2, 3"),
        ({"algorithm_type": "rk45"}, "algorithm_type='rk45'; allowed"),
        ({"solver_type": "ralston"}, "solver_type='ralston'; allowed"),
        ({"timestep_spacing": "even"}, "timestep_spacing='even'; allowed: leading, linspace"),
        ({"lambda_min_clipped": 20.0}, "lambda_min_clipped=20, above"),
    ],
)
def test_a_value_that_diffusers_refuses_is_refused_by_its_key(changes, message):
    with pytest.raises(ExportError, match=message):
        read_scheduler(config_of(MULTI) | changes)


def test_a_wrong_sign_in_diffusers_is_warned_of(caplog):
    read_scheduler(config_of(MULTI, solver_order=3, algorithm_type="sde-dpmsolver++"))
    assert "wrong sign" in caplog.text


COSINE = {"_class_name": "CosineDPMSolverMultistepScheduler"}


@pytest.mark.parametrize(
    ("changes", "want"),
    [
        ({}, DPMSolverPP2M(eta=1.0)),
        ({"solver_order": 1, "euler_at_final": True}, DPMSolverPP1S(eta=1.0, euler_at_final=True)),
        ({"solver_type": "heun"}, DPMSolverPP2M(eta=1.0, second="heun")),
    ],
)
def test_stable_audios_scheduler_is_read_without_what_its_class_needs(changes, want):
    """diffusers' class can't be made without torchsde."""
    read = read_scheduler(COSINE | changes)
    assert read.sampler == want
    assert (read.time_kind, read.spec_fields["prediction"]) == ("unit", "edm_v")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma_data": 0.5}, "sigma_data=0.5; allowed: 1.0"),
        ({"final_sigmas_type": "sigma_min"}, "'sigma_min'; allowed: 'zero'"),
        ({"prediction_type": "sample"}, "'sample'; allowed: epsilon, v_prediction"),
    ],
)
def test_what_stable_audios_spec_cannot_say_is_refused(changes, message):
    with pytest.raises(ExportError, match=message):
        read_scheduler(COSINE | changes)


def test_a_scheduler_of_a_brownian_path_is_refused_by_its_name():
    with pytest.raises(ExportError, match="two noises of one Brownian path"):
        read_scheduler({"_class_name": "DPMSolverSDEScheduler"})
