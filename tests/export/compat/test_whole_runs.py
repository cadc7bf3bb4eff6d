"""RevstepScheduler's runs are those of diffusers' own schedulers, 0.42.1."""

import inspect

import diffusers
import pytest
import torch
from compat_runs import SD, error, run, takes
from diffusers.schedulers import AysSchedules

from proofs.oracles.float64 import schedulers
from revstep.compat import RevstepScheduler
from revstep.errors import ProgramError
from revstep.export.compat.family import FAMILIES

pytest.importorskip("scipy")  # of LMS and beta sigmas

VERSION = "0.42"
pytestmark = [
    pytest.mark.skipif(
        not diffusers.__version__.startswith(VERSION), reason=f"holds for diffusers {VERSION}"
    ),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),  # LMS's, of scale_model_input
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),  # diffusers' own log of 0
]

FLOAT32 = 1e-5
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
V = {"prediction_type": "v_prediction"}
ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", **V}
BY_TIMESTEP = [name for name, family in FAMILIES.items() if family.kind == "timesteps"]
SDE = {"algorithm_type": "sde-dpmsolver++"}
METHODS = (  # each goes to every scheduler that knows its keys
    {},
    V,
    {"prediction_type": "sample"},
    {"clip_sample": True, "clip_sample_range": 0.8},
    {"clip_sample": True, **V},
    {"variance_type": "fixed_large"},
    {"solver_order": 1},
    {"solver_order": 3, "lower_order_final": True},
    {"solver_order": 3, "final_sigmas_type": "sigma_min", "lower_order_final": False},
    {"solver_type": "heun", "algorithm_type": "dpmsolver++"},
    {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},
    {"disable_corrector": [0, 2, 5]},
    {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
    SDE,
    {**SDE, "final_sigmas_type": "sigma_min", "solver_type": "heun"},
    {**FLOW, "flow_shift": 3.0, "solver_order": 3},
    {"stochastic_sampling": True},
)
GRIDS = (
    {"timestep_spacing": "trailing"},
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"set_alpha_to_one": False, "steps_offset": 1},
    ZERO_SNR,
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
    {"use_lu_lambdas": True},
    {"final_sigmas_type": "sigma_min"},
    {"interpolation_type": "log_linear"},
    {"timestep_type": "continuous", **V},
    FLOW,
    {"shift": 3.0, "shift_terminal": 0.1},
    {"shift": 3.0, "use_karras_sigmas": True},
    {"invert_sigmas": True},
    {"num_train_timesteps": 500},
    {"sigma_schedule": "exponential", "sigma_min": 0.01},
    {"clip_denoised": False, "sigma_min": 0.05},
)


def made(name, options):
    cls = getattr(diffusers, name)
    known = inspect.signature(cls.__init__).parameters
    options = {**{k: v for k, v in SD.items() if k in known}, **options}
    if "skip_prk_steps" in known:
        options["skip_prk_steps"] = True
    if "clip_sample" in known:
        options.setdefault("clip_sample", False)
    return cls(**options)


def outside(name, options):
    """What is refused, as other tests say."""
    third_order = name == "DPMSolverSinglestepScheduler" and options.get("solver_order") == 3
    edm = name.startswith("EDM") and options.get("prediction_type") not in (None, "v_prediction")
    return third_order or edm


def pairs(name, among):
    """(diffusers' own, the fused) for all options that the scheduler knows and takes."""
    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    for options in among[:1] if "Parallel" in name else among:
        if not all(key in known for key in options) or outside(name, options):
            continue
        try:
            theirs = made(name, options)
        except (ValueError, NotImplementedError):
            continue
        yield options, theirs, RevstepScheduler.from_scheduler(theirs)


def apart(theirs, got, want, **given):
    """The difference; where float32 loses digits in diffusers' own weights, that to float64's."""
    off = error(got, want)
    if off < FLOAT32:
        return off
    name = type(theirs).__name__
    with schedulers(name, double=True) as cls:
        exact = run(cls.from_config(theirs.config), dtype=torch.float64, **given)
    ours, its = (error([x.double() for x in found], exact) for found in (got, want))
    return off if ours > its / 3.0 else 0.0


def compared(name, steps, begin):
    found = []
    for options, theirs, ours in pairs(name, METHODS + GRIDS):
        try:
            want = run(theirs, steps, begin=begin)
        except (AssertionError, IndexError, NotImplementedError, ValueError):
            continue
        if all(bool(w.isfinite().all()) for w in want):
            off = apart(theirs, run(ours, steps, begin=begin), want, steps=steps, begin=begin)
            found.append((off, options))
    return found


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("steps", "begin"),
    [
        (6, 0),
        (17, 7),
        *(
            pytest.param(*run, marks=pytest.mark.slow)
            for run in ((1, 0), (6, 1), (17, 0), (50, 20))
        ),
    ],
)
def test_a_run_is_diffusers_own(name, steps, begin):
    found = compared(name, steps, begin)
    assert found
    assert [(e, o) for e, o in found if e > FLOAT32] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_sample_that_the_caller_changes_counts_as_it_does_in_diffusers(name):
    def blend(x, m):
        return x + 0.3 * float(x.pow(2).mean().sqrt()) * m.roll(1)

    def write(x, m):
        x[..., :2] += 0.3 * float(x.pow(2).mean().sqrt()) * m.roll(1)[..., :2]
        return x

    for options, theirs, ours in pairs(name, METHODS):
        try:
            want = run(theirs, 6, change=blend)
        except (AssertionError, IndexError, NotImplementedError, ValueError):
            continue
        if not all(bool(w.isfinite().all()) for w in want):
            continue
        got = run(ours, 6, change=blend)
        assert apart(theirs, got, want, steps=6, change=blend) < FLOAT32, options
        want, got = run(theirs, 6, change=write), run(ours, 6, change=write)
        assert apart(theirs, got, want, steps=6, change=write) < FLOAT32, options
        with torch.inference_mode():  # whose tensors count no versions
            assert error(run(ours, 6, change=write), got) < FLOAT32, options


@pytest.mark.parametrize("options", [{"eta": 0.5}, {"eta": 1.0, "use_clipped_model_output": True}])
def test_ddims_options_count(options):
    theirs = made("DDIMScheduler", {"clip_sample": True})
    ours = RevstepScheduler.from_scheduler(theirs)
    assert error(run(ours, 8, **options), run(theirs, 8, **options)) < FLOAT32


def test_tcds_eta_counts():
    theirs = made("TCDScheduler", {})
    ours = RevstepScheduler.from_scheduler(theirs)
    for eta in (0.0, 1.0):
        assert error(run(ours, 8, eta=eta), run(theirs, 8, eta=eta)) < FLOAT32


def test_the_order_of_lms_counts():
    theirs = made("LMSDiscreteScheduler", {})
    ours = RevstepScheduler.from_scheduler(theirs)
    assert error(run(ours, 8, order=2), run(theirs, 8, order=2)) < FLOAT32


def test_ddim_and_ddpm_take_timesteps_in_any_order():
    for name in ("DDIMScheduler", "DDPMScheduler"):
        theirs = made(name, {})
        ours = RevstepScheduler.from_scheduler(theirs)
        x, m = torch.randn(2, 1, 4, 8, 8)
        for scheduler in (theirs, ours):
            scheduler.set_timesteps(10)
        for t in (0, 500, 900, 500, *((333, 41) if name == "DDIMScheduler" else ())):
            both = [
                s.step(m, torch.tensor(t), x, return_dict=False, **noise(s)) for s in (ours, theirs)
            ]
            assert error(*both) < FLOAT32


@pytest.mark.parametrize("name", BY_TIMESTEP)
@pytest.mark.parametrize("eta", [None, 0.7])
def test_a_predicted_noise_begins_after_a_time_of_noise_alone(name, eta):
    """From a picture; at that time diffusers divides by zero."""
    theirs = made(name, {**ZERO_SNR, "prediction_type": "epsilon", "clip_sample": False})
    if theirs.config.get("rescale_betas_zero_snr") is None:
        pytest.skip("its betas are never rescaled")
    ours = RevstepScheduler.from_scheduler(theirs)
    options = {} if eta is None or not takes(ours, "eta") else {"eta": eta}
    for begin in (1, 4):
        assert (
            error(run(ours, 10, begin=begin, **options), run(theirs, 10, begin=begin, **options))
            < FLOAT32
        )
    assert not run(theirs, 10, **options)[-1].isfinite().any()
    with pytest.raises(ProgramError, match=r"nothing of x0 where alpha = 0 .*start the grid later"):
        run(ours, 10, **options)


def noise(scheduler):
    return {"generator": torch.Generator().manual_seed(0)} if takes(scheduler, "generator") else {}


def test_timesteps_and_sigmas_of_the_callers_count():
    sigmas = AysSchedules["StableDiffusionSigmas"]
    shifted = {"use_dynamic_shifting": True}
    cases = [
        ("EulerDiscreteScheduler", {}, {"sigmas": sigmas}),
        ("DPMSolverMultistepScheduler", {}, {"timesteps": [999, 850, 736, 645, 545, 455, 343]}),
        ("HeunDiscreteScheduler", {}, {"timesteps": [999, 700, 400, 100]}),
        ("DDPMScheduler", {}, {"timesteps": [999, 600, 200, 10]}),
        ("FlowMatchEulerDiscreteScheduler", {}, {"sigmas": [1.0, 0.7, 0.3, 0.1]}),
        ("FlowMatchEulerDiscreteScheduler", shifted, {"sigmas": [1.0, 0.6, 0.2], "mu": 0.8}),
        ("LTXEulerAncestralRFScheduler", {}, {"sigmas": [1.0, 0.7, 0.2, 0.0]}),
        ("LTXEulerAncestralRFScheduler", {}, {"sigmas": [1.0, 0.7, 0.2]}),
    ]
    for name, options, given in cases:
        theirs = made(name, options)
        ours = RevstepScheduler.from_scheduler(theirs)
        want = run(theirs, None, given=given)
        assert error(run(ours, None, given=given), want) < FLOAT32, name


def test_learned_variance_is_taken_as_diffusers_takes_it():
    theirs = made("DDPMScheduler", {"variance_type": "learned_range"})
    ours = RevstepScheduler.from_scheduler(theirs)
    x, m, v = torch.randn(3, 2, 4, 8, 8)
    both = []
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(12)
        y, generator, found = x, torch.Generator().manual_seed(3), []
        for t in scheduler.timesteps:
            out = scheduler.step(torch.cat([m, 0.3 * v], 1), t, y, generator=generator)
            y = out.prev_sample
            found += [y, out.pred_original_sample]
        both.append(found)
    assert error(*both) < FLOAT32


def test_the_multistep_solver_leaves_a_variance_out():
    theirs = made("DPMSolverMultistepScheduler", {"variance_type": "learned_range"})
    ours = RevstepScheduler.from_scheduler(theirs)
    x, m = torch.randn(2, 3, 8, 8), torch.randn(2, 6, 8, 8)
    both = []
    for scheduler in (ours, theirs):
        scheduler.set_timesteps(5)
        y = x
        for t in scheduler.timesteps:
            y = scheduler.step(m, t, y).prev_sample
        both.append([y])
    assert error(*both) < FLOAT32


def test_the_sigmas_of_squared_cosine_betas_are_20_000():
    theirs = made("EulerDiscreteScheduler", {"beta_schedule": "squaredcos_cap_v2", **V})
    ours = RevstepScheduler.from_scheduler(theirs)
    want = run(theirs, 8)
    assert float(want[0].abs().max()) > 20_000  # the scale of what float32 can say of the rest
    assert error(run(ours, 8), want) < FLOAT32
