"""With ``compat="diffusers"`` an imported config's run is that of diffusers' own scheduler.

The oracle is the scheduler's whole run, as shipped: its calls, its start and its float32 tables.
Noise is the same on both sides. docs/diffusers-configs.md says what is left out, and why.
"""

import inspect
import itertools
import json
import math

import diffusers
import numpy as np
import pytest
import torch

from proofs.float64_rows import run_rows
from proofs.oracles.float64 import schedulers
from revstep import DenoiserSpec, TimeInput
from revstep.engine.program.table import build_program
from revstep.export import read_scheduler
from revstep.export.sources.diffusers_levels import LEVELS
from revstep.export.sources.diffusers_schedule import (
    EDM_SCHEDULERS,
    FLOW_SCHEDULERS,
    VP_SCHEDULERS,
)

pytest.importorskip("scipy")  # of LMS and beta sigmas

VERSION = "0.42"
pytestmark = [
    pytest.mark.skipif(
        not diffusers.__version__.startswith(VERSION), reason=f"holds for diffusers {VERSION}"
    ),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # diffusers' own 0 / 0
]

EACH = 1e-3  # of the result's RMS: the float32 of diffusers' tables and states
CLIPPED = -5.1
TIED = ("_class_name", "timestep_spacing", "lambda_min_clipped")
DIGITS = 1e-4  # from here on it is asked whether that float32 alone makes the error
MEAN = 1e-5
SIZE = 6
DIFFUSERS_RAISES = (
    AssertionError, IndexError, NotImplementedError, TypeError, ValueError, ZeroDivisionError,
)  # fmt: skip
STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
EXTRAS = (
    {},
    {"prediction_type": "v_prediction"},
    {"prediction_type": "sample"},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
    {"use_lu_lambdas": True},
    {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0},
    {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
    {"use_karras_sigmas": True, **COSINE, "prediction_type": "v_prediction"},
    ZERO_SNR,
    {**ZERO_SNR, "use_karras_sigmas": True},
    {**ZERO_SNR, "use_exponential_sigmas": True},
    {"steps_offset": 1},
    {"set_alpha_to_one": False},
    {"set_alpha_to_one": False, "steps_offset": 1},
    {"final_sigmas_type": "sigma_min"},
    {**COSINE, "prediction_type": "v_prediction"},
    {**COSINE, "lambda_min_clipped": -5.1},
    {**COSINE, "lambda_min_clipped": -5.1, "rescale_betas_zero_snr": True},
    {**COSINE, "lambda_min_clipped": -5.1, "use_karras_sigmas": True},
    {"clip_sample": True},
    {"clip_sample": True, "clip_sample_range": 0.7, "prediction_type": "v_prediction"},
    {"trained_betas": [0.01 + 0.0003 * k for k in range(200)], "num_train_timesteps": 200},
    {"beta_schedule": "linear", "num_train_timesteps": 357},
    {"variance_type": "fixed_large"},
    {"variance_type": "fixed_small_log"},
    {"solver_order": 1},
    {"solver_order": 3},
    {"solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min"},
    {"lower_order_final": True},
    {"lower_order_final": False},
    {"solver_type": "heun"},
    {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},
    {"algorithm_type": "sde-dpmsolver++"},
    {"algorithm_type": "sde-dpmsolver++", "final_sigmas_type": "sigma_min"},
    {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun", "solver_order": 2},
    {"algorithm_type": "dpmsolver", "solver_order": 1, "final_sigmas_type": "sigma_min"},
    {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
    {"disable_corrector": [0, 2]},
    {**FLOW},
    {**FLOW, "flow_shift": 3.0},
    {**FLOW, "flow_shift": 5.0, "solver_order": 3},
    {"shift": 3.0},
    {"shift": 3.0, "shift_terminal": 0.1},
    {"stochastic_sampling": True},
    {"predictor_order": 3, "corrector_order": 4},
    {"predictor_order": 1, "lower_order_final": False},
    {"original_inference_steps": 100},
    {"snr_shift_scale": 1.0, **ZERO_SNR},
    {"eta": 0.5, "s_noise": 0.9},
    {"shift": 3.0, "use_karras_sigmas": True},
    {"sigma_schedule": "exponential", "sigma_min": 0.01},
    {"sigma_data": 1.0, "final_sigmas_type": "sigma_min"},
    {"clip_denoised": False},
    {"clip_denoised": True, "sigma_min": 0.02, "rho": 5.0},
    {"original_inference_steps": 20, "timestep_scaling": 0.1},
)
STEPS = (1, 2, 4, 7, 20, 50)


class Net:
    """Smooth in x and t, for any real t; numbers of order 1, as a trained network's are."""

    def __init__(self, prediction):
        self.w = np.random.default_rng(1).standard_normal((SIZE, SIZE)) / SIZE**0.5
        self.prediction = prediction

    def __call__(self, x, t):
        scale = 60.0 if abs(t) > 3.0 else 1.0
        f = 0.5 * np.tanh(x @ self.w + math.sin(t / scale))
        return {"epsilon": 0.8 * x + 0.3 * f, "sample": f, "edm": f}.get(
            self.prediction, 0.2 * x - f
        )


def noise_of(number):
    return np.random.default_rng([7, number + 1]).standard_normal((3, SIZE)).astype(np.float32)


def config_of(name, options):
    """The config as diffusers saves it, or None where the scheduler refuses it itself."""
    try:
        scheduler = getattr(diffusers, name)(**options)
    except (ValueError, NotImplementedError, ImportError):
        return None
    return json.loads(scheduler.to_json_string())


def theirs(name, options, steps, net, double):
    call = -1
    with schedulers(name, double=double, noise=lambda: noise_of(call).astype(kind)) as cls:
        kind = np.float64 if double else np.float32
        scheduler = cls(**options)
        scheduler.set_timesteps(steps)
        x = torch.from_numpy(noise_of(-1).astype(kind))
        x = x * getattr(scheduler, "init_noise_sigma", 1.0)
        scales = hasattr(scheduler, "scale_model_input")
        step = stepper(name, scheduler)
        for call, t in enumerate(scheduler.timesteps):  # noqa: B007 (the noise reads it)
            fed = scheduler.scale_model_input(x, t) if scales else x
            m = net(fed.numpy().astype(np.float64), float(t)).astype(kind)
            x = step(torch.from_numpy(m), t, x)
    return x.double().numpy()


def stepper(name, scheduler):
    """The scheduler's step, with what its pipeline passes besides."""
    times = scheduler.timesteps.tolist()
    after, before, old = dict(itertools.pairwise(times)), dict(itertools.pairwise(times[::-1])), []

    def step(m, t, x):
        if name == "UnCLIPScheduler":
            return scheduler.step(m, t, x, prev_timestep=after.get(int(t))).prev_sample
        if name != "CogVideoXDPMScheduler":
            return scheduler.step(m, t, x).prev_sample
        x, x0 = scheduler.step(m, old[-1] if old else None, t, before.get(int(t)), x)
        old.append(x0)
        return x

    return step


def ours(read, net, steps):
    time = TimeInput(kind=read.time_kind, fractions=True)
    spec = DenoiserSpec(shape=(SIZE,), time=time, **read.spec_fields)
    spec = DenoiserSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    program = build_program(spec, read.sampler, steps, compat="diffusers")
    start = program.start[1] * noise_of(-1).astype(np.float64)
    x, _ = run_rows(program, start, lambda x, t: net(x, read.time_scale * t), noise_of)
    return x


def configs(name):
    """Options of one scheduler, each once."""
    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    spacings = ("leading", "linspace", "trailing") if "timestep_spacing" in known else (None,)
    for spacing in spacings:
        for extra in EXTRAS:
            kind = extra.get("prediction_type", "v_prediction")
            refused = name in EDM_SCHEDULERS and kind != "v_prediction"
            refused = refused or (name == "IPNDMScheduler" and "trained_betas" in extra)
            if refused or not all(key in known for key in extra):
                continue
            options = dict(STABLE) if "beta_start" in known else {}
            if spacing is not None:
                options["timestep_spacing"] = spacing
            if "skip_prk_steps" in known:
                options["skip_prk_steps"] = True
            if "clip_sample" in known:
                options["clip_sample"] = False
            if "trained_betas" in extra:
                options = {k: v for k, v in options.items() if k not in STABLE}
            yield options | extra


def run_of_one(name, options, read, steps):
    """The error against the scheduler's run, or None where that has no result.

    As shipped; where float32 itself loses digits, as at sigma / alpha = 20,000 of a squared-cosine
    schedule, against the same code computed in float64.
    """
    net = Net(read.spec_fields["prediction"])
    try:
        want = theirs(name, options, steps, net, double=False)
        if not np.all(np.isfinite(want)):
            return None
    except DIFFUSERS_RAISES:
        return None
    got = ours(read, net, steps)
    error = relative(got, want)
    if error < DIGITS:
        return error
    return min(error, relative(got, theirs(name, options, steps, net, double=True)))


def relative(got, want):
    scale = math.sqrt(np.mean(want**2)) or 1.0  # one step of IPNDM gives zeros
    return float(np.abs(got - want).max() / scale)


def errors(name, steps, every=1):
    """[(error, options, steps)] over all configs of a scheduler that have a sampler here."""
    found = []
    for number, options in enumerate(configs(name)):
        config = config_of(name, options)
        if number % every or config is None:
            continue
        read = read_scheduler(config)
        if read.sampler is None:
            continue
        for n in steps:
            if (n == 1 and name in EDM_SCHEDULERS) or outside(config, n):
                continue
            if (error := run_of_one(name, options, read, n)) is not None:
                found.append((error, json.dumps(options), n))
    return found


def outside(config, steps):
    """Whether diffusers computes no such run, or a wrong one: see docs/diffusers-configs.md."""
    tied = ("SASolverScheduler", "linspace", CLIPPED)  # 895.5, of a grid in float32
    if tied == tuple(map(config.get, TIED)) and steps == 50:
        return True
    third = config.get("solver_order") == 3 and config.get("algorithm_type", "").startswith("sde")
    return third and steps > 2


def check(found):
    bad = [f"{error:.1e}: {options}, {n} steps" for error, options, n in found if error > EACH]
    assert bad == []


SLOW = ("LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler")
SAMPLED = [
    name
    for name in (*VP_SCHEDULERS, *FLOW_SCHEDULERS, *LEVELS)
    if name
    not in ("SCMScheduler", "CosineDPMSolverMultistepScheduler")  # see test_diffusers_schedule.py
]


@pytest.mark.parametrize("name", SAMPLED)
def test_an_imported_config_runs_as_diffusers(name):
    found = errors(name, (7,), every=14) if name in SLOW else errors(name, (2, 7), every=4)
    assert len(found) > 1
    check(found)


@pytest.mark.slow
def test_every_imported_config_runs_as_diffusers_at_all_step_counts():
    found = [row for name in SAMPLED for row in errors(name, STEPS)]
    assert len(found) > 3000
    check(found)
    assert np.mean([error for error, _, _ in found]) < MEAN
