"""Which sampler a scheduler's config means."""

import json

import diffusers
import pytest

from revstep.engine.errors import ExportError
from revstep.engine.program.samplers import (
    DDIM,
    DDPM,
    LMS,
    PNDM,
    Consistency,
    DPMSolverPP1S,
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
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
        ("DEISMultistepScheduler", {}, "DEIS"),
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
