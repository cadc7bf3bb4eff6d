"""The named grids against diffusers' schedulers, and against their papers' formulas."""

import dataclasses
import itertools

import numpy as np
import pytest

from revstep import DenoiserSpec, TimeInput, build_program
from revstep.engine.program.diffusers_stepping import MULTISTEP
from revstep.engine.program.steps import steps_over
from revstep.engine.spec.grids.beta_quantile import beta_quantile
from revstep.grids import (
    AYS_SD15,
    AYS_SDXL,
    AYS_SVD,
    GRIDS,
    BetaGrid,
    ExponentialGrid,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    ShiftedGrid,
    TimeGrid,
    TrailingGrid,
    flow_shift,
)
from revstep.kernels import columns as col
from revstep.schedules import FlowSchedule, VESchedule, VPSchedule

# diffusers' own, on numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")

ROUNDING = 5e-4  # of diffusers' float32 tables, where 1 - abar keeps 3 to 4 digits
BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")
SCHEDULES = {
    **{name: VPSchedule(betas=name) for name in BETAS},
    "zero_snr": VPSchedule(betas="scaled_linear", zero_terminal_snr=True),
    "ve": VESchedule(),
    "edm": VESchedule.edm(),
    "flow": FlowSchedule(),
}


def spec_of(schedule, **fields):
    prediction = {"ve": "epsilon", "flow": "flow"}.get(schedule.kind, "v_prediction")
    time = TimeInput(kind="thousand" if schedule.kind == "flow" else "index", fractions=True)
    return DenoiserSpec(
        **{"shape": (2,), "schedule": schedule, "prediction": prediction, "time": time, **fields}
    )


def levels(pairs):
    return np.array([now.level for now, _ in pairs])


def times(pairs):
    return np.array([now.time for now, _ in pairs])


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_grid_falls_from_the_noise_to_the_clean_end(schedule, name):
    for steps in (1, 2, 3, 10, 50):
        if (name, steps) == ("leading", 1):
            continue
        pairs = steps_over(spec_of(schedule), steps, name)
        assert len(pairs) == steps
        t = [now.t for now, _ in pairs]
        assert np.all(np.diff(t) < 0)
        assert [then for _, then in pairs[:-1]] == [now for now, _ in pairs[1:]]
        end = pairs[-1][1]
        assert (end.alpha, end.sigma, end.t, end.index) == (1.0, 0.0, schedule.clean, -1.0)
        if name != "leading":
            assert t[0] == schedule.from_index(schedule.steps - 1)
        for now, _ in pairs:
            alpha, sigma = schedule.alpha_sigma(now.t)
            assert (now.alpha, now.sigma) == (alpha, sigma)
            assert np.isfinite(now.time)


@pytest.mark.parametrize("name", ["karras", "exponential", "beta"])
@pytest.mark.parametrize("betas", BETAS)
def test_noise_grids_are_diffusers(betas, name):
    """DPM-Solver's grids run over the whole table; Euler's over its linspace, the same ends."""
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("scipy")
    torch = pytest.importorskip("torch")
    settings = {"beta_schedule": betas, "beta_start": 1e-4, "beta_end": 0.02}
    if betas == "sigmoid":  # only DDPMScheduler knows the name
        table = diffusers.DDPMScheduler(**settings).betas
        settings = {"trained_betas": table.double().tolist()}
    settings[f"use_{name}_sigmas"] = True
    schedule = VPSchedule(betas=betas)
    euler = diffusers.EulerDiscreteScheduler(timestep_spacing="linspace", **settings)
    solver = diffusers.DPMSolverMultistepScheduler(**settings)
    for steps in (2, 5, 12, 40):
        pairs = steps_over(spec_of(schedule), steps, name)
        for scheduler in (euler, solver):
            scheduler.set_timesteps(steps)
            got = scheduler.sigmas[:-1].numpy()
            np.testing.assert_allclose(levels(pairs), got, rtol=ROUNDING)
    euler.alphas_cumprod = torch.from_numpy(schedule.alphas_cumprod)  # our table instead
    for steps in (2, 5, 12, 40):
        pairs = steps_over(spec_of(schedule), steps, name)
        euler.set_timesteps(steps)
        np.testing.assert_allclose(levels(pairs), euler.sigmas[:-1].numpy(), rtol=1e-6)
        np.testing.assert_allclose(times(pairs), euler.timesteps.numpy(), rtol=1e-6, atol=1e-6)


def test_an_exponential_grid_is_diffusers_uniform_lambdas():
    diffusers = pytest.importorskip("diffusers")
    solver = diffusers.DPMSolverMultistepScheduler(use_lu_lambdas=True)
    solver.set_timesteps(9)
    pairs = steps_over(spec_of(VPSchedule()), 9, "exponential")
    np.testing.assert_allclose(levels(pairs), solver.sigmas[:-1].numpy(), rtol=ROUNDING)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_karras_levels_are_the_papers(schedule):
    """Karras et al. 2022, eq. 5, between levels of one's own."""
    high, low, rho, n = 0.9, 0.05, 5.0, 8
    pairs = steps_over(spec_of(schedule), n, KarrasGrid(sigma_min=low, sigma_max=high, rho=rho))
    want = [
        (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        for i in range(n)
    ]
    np.testing.assert_allclose(levels(pairs), want, rtol=1e-11)


@pytest.mark.parametrize("name", ["karras", "exponential"])
def test_edm_grids_are_diffusers(name):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EDMEulerScheduler(sigma_schedule=name)
    spec = spec_of(VESchedule.edm(), prediction="edm", time=TimeInput(kind="log_sigma"))
    for steps in (2, 18, 50):
        scheduler.set_timesteps(steps)
        pairs = steps_over(spec, steps, name)
        np.testing.assert_allclose(levels(pairs), scheduler.sigmas[:-1].numpy(), rtol=1e-6)
        np.testing.assert_allclose(times(pairs), scheduler.timesteps.numpy(), rtol=1e-6, atol=1e-6)


def test_edms_indices_are_the_karras_grid():
    spec = spec_of(VESchedule.edm(steps=33))
    np.testing.assert_allclose(
        levels(steps_over(spec, 33, "linspace")), levels(steps_over(spec, 33, "karras")), rtol=1e-12
    )


def test_sgm_uniform_is_diffusers_multistep_linspace():
    diffusers = pytest.importorskip("diffusers")
    solver = diffusers.DPMSolverMultistepScheduler(timestep_spacing="linspace")
    for steps in (1, 2, 7, 20, 333):
        solver.set_timesteps(steps)
        got = times(steps_over(spec_of(VPSchedule()), steps, "sgm_uniform"))
        np.testing.assert_array_equal(got, solver.timesteps.numpy())


def test_sgm_uniform_on_a_flow_is_diffusers_unipc():
    diffusers = pytest.importorskip("diffusers")
    for shift, steps in itertools.product((1.0, 5.0), (1, 6, 30)):
        solver = diffusers.UniPCMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=shift
        )
        solver.set_timesteps(steps)
        grid = ShiftedGrid(shift, "sgm_uniform")
        got = levels(steps_over(spec_of(FlowSchedule()), steps, grid))
        # diffusers moves its first sigma from 1 by 1e-6
        np.testing.assert_allclose(got, solver.sigmas[:-1].numpy(), rtol=2e-6)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_log_snr_steps_are_equal_down_to_index_zero(schedule):
    """DPM-Solver's logSNR: lambda_k = lambda_T + k/N (lambda_0 - lambda_T) (Lu et al. 2022)."""
    spec = spec_of(schedule, final="first")
    pairs = steps_over(spec, 16, "logsnr_uniform")
    assert pairs[-1][1].index == pytest.approx(0.0, abs=1e-9)
    h = np.array([then.lam - now.lam for now, then in pairs])
    if np.isinf(h[0]):  # alpha = 0 at the start: the formula's own lambda is the index before's
        before = np.log(np.divide(*schedule.alpha_sigma(schedule.from_index(schedule.steps - 2))))
        h[0] = pairs[1][0].lam - before
    np.testing.assert_allclose(h, h.mean(), rtol=1e-9)


def test_beta_over_the_index_is_comfyuis():
    """Round(quantile x the last index), its beta_scheduler but for the end that it drops."""
    stats = pytest.importorskip("scipy.stats")
    for alpha, beta, steps in [(0.6, 0.6, 20), (0.5, 0.7, 9)]:
        want = np.round(stats.beta.ppf(np.linspace(1, 0, steps), alpha, beta) * 999)
        grid = BetaGrid(alpha=alpha, beta=beta, over="index")
        np.testing.assert_array_equal(times(steps_over(spec_of(VPSchedule()), steps, grid)), want)


@pytest.mark.parametrize(
    ("a", "b"), [(0.6, 0.6), (0.1, 0.1), (0.5, 3.0), (2.0, 0.3), (1.0, 1.0), (100.0, 60.0)]
)
def test_beta_quantiles_are_scipys(a, b):
    stats = pytest.importorskip("scipy.stats")
    share = np.concatenate([np.linspace(0.0, 1.0, 101), [1e-6, 1e-3, 0.999, 1 - 1e-6]])
    got, want = beta_quantile(share, a, b), stats.beta.ppf(share, a, b)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-15)


def test_zero_terminal_snr_starts_at_alpha_zero_and_goes_on_with_the_formula():
    schedule = SCHEDULES["zero_snr"]
    high = schedule.level_range[1]
    assert high == pytest.approx(float(schedule.level(998)))
    for name in ("karras", "exponential", "beta", "logsnr_uniform"):
        pairs = steps_over(spec_of(schedule), 10, name)
        assert pairs[0][0].alpha == 0.0
        assert pairs[0][0].index == 999.0
        assert 0.0 < pairs[0][1].level < high


@pytest.mark.parametrize("name", GRIDS)
def test_a_program_of_zero_terminal_snr_has_its_limits(name):
    program = build_program(spec_of(SCHEDULES["zero_snr"]), "ddim", 10, grid=name)
    assert np.all(np.isfinite(program.rows[:-1, col.C_X : col.S]))
    if name != "leading":
        assert program.start == (0.0, 1.0)


def test_a_given_grid_needs_no_steps():
    program = build_program(spec_of(VPSchedule()), "ddim", grid=AYS_SD15)
    np.testing.assert_array_equal(program.rows[:-1, col.TIME], AYS_SD15.times)
    assert program.points[-1].sigma == 0.0


@pytest.mark.parametrize("drop_last", [False, True])
def test_halves_of_linspace_are_rounded_as_diffusers_rounds_them(drop_last):
    diffusers = pytest.importorskip("diffusers")
    name = "DPMSolverMultistepScheduler" if drop_last else "DDIMScheduler"
    scheduler = getattr(diffusers, name)(timestep_spacing="linspace")
    for steps in (26, 27, 30, 31, 58, 59, 60, 61, 102, 103):
        scheduler.set_timesteps(steps)
        ours = steps_over(spec_of(VPSchedule()), steps, LinspaceGrid(drop_last=drop_last))
        np.testing.assert_allclose(times(ours), scheduler.timesteps.numpy(), rtol=1e-12)


def test_one_step_of_linspace_starts_at_the_noise():
    ((now, then),) = steps_over(spec_of(VPSchedule()), 1, "linspace")
    assert (now.index, then.index) == (999.0, -1.0)


def test_one_step_of_leading_is_refused_with_the_fix():
    with pytest.raises(ValueError, match=r"one step .*grid='trailing'"):
        steps_over(spec_of(VPSchedule()), 1, "leading")
    assert MULTISTEP.steps_over(spec_of(VPSchedule()), 1, "leading")[0][0].index == 500


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_given_levels_are_met_exactly(schedule):
    want = (0.93, 0.41234, 0.1001, 0.05)
    pairs = steps_over(spec_of(schedule), None, TimeGrid(sigmas=want))
    np.testing.assert_allclose(levels(pairs), want, rtol=1e-11)
    assert pairs[-1][1].sigma == 0.0
    for now, _ in pairs:  # the network's index is the inverse of the schedule's interpolation
        back = schedule.from_index(now.index)
        assert float(schedule.level(back)) == pytest.approx(now.level, rel=1e-11)


def test_given_points_end_where_they_say():
    spec = spec_of(VPSchedule())
    for grid in (TimeGrid(times=(900, 500, -1)), TimeGrid(times=(900, 500))):
        pairs = steps_over(spec, None, grid)
        assert [now.index for now, _ in pairs] == [900, 500]
        assert pairs[-1][1].index == -1.0
    pairs = steps_over(spec, None, TimeGrid(sigmas=(5.0, 2.0, 0.5), stop=True))
    assert len(pairs) == 2
    assert pairs[-1][1].level == pytest.approx(0.5)
    first = dataclasses.replace(spec, final="first")
    assert steps_over(first, None, TimeGrid(times=(900, 500)))[-1][1].index == 0.0
    assert steps_over(first, None, TimeGrid(times=(900, 500, -1)))[-1][1].index == -1.0


def test_a_network_of_whole_indices_is_fed_the_nearest():
    whole = spec_of(VPSchedule(), time=TimeInput())
    fractional = steps_over(spec_of(VPSchedule()), 30, "karras")
    for (got, _), (want, _) in zip(steps_over(whole, 30, "karras"), fractional, strict=True):
        assert got.time == round(want.index)
        assert (got.alpha, got.sigma, got.t) == (want.alpha, want.sigma, want.t)
    mean = dataclasses.replace(whole, prediction="mean")
    with pytest.raises(ValueError, match=r"'mean' for whole indices.*grid in training indices"):
        steps_over(mean, 30, "karras")
    steps_over(mean, 30, "trailing")


@pytest.mark.parametrize("betas", ["linear", "scaled_linear"])
def test_the_nearest_index_is_what_diffusers_solver_feeds(betas):
    diffusers = pytest.importorskip("diffusers")
    torch = pytest.importorskip("torch")
    schedule = VPSchedule(betas=betas)
    solver = diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True)
    solver.alphas_cumprod = torch.from_numpy(schedule.alphas_cumprod)
    for steps in (1, 6, 30):
        solver.set_timesteps(steps)
        pairs = steps_over(spec_of(schedule, time=TimeInput()), steps, "karras")
        np.testing.assert_array_equal(times(pairs), solver.timesteps.numpy())
        np.testing.assert_allclose(levels(pairs), solver.sigmas[:-1].numpy(), rtol=1e-6)


def test_grids_are_equal_by_value_and_can_be_kept_by():
    kept = {
        TimeGrid(times=[9, 3]): 1,
        KarrasGrid(rho=5.0): 2,
        ShiftedGrid(3.0, TimeGrid(sigmas=[0.9, 0.1])): 3,
    }
    assert kept[TimeGrid(times=(9.0, 3.0))] == 1
    assert kept[KarrasGrid(rho=5.0)] == 2
    assert kept[ShiftedGrid(3.0, TimeGrid(sigmas=(0.9, 0.1)))] == 3


def test_align_your_steps_are_diffusers_lists():
    schedulers = pytest.importorskip("diffusers.schedulers")
    published = schedulers.AysSchedules
    assert list(AYS_SD15.times) == published["StableDiffusionTimesteps"]
    assert list(AYS_SDXL.times) == published["StableDiffusionXLTimesteps"]
    assert list(AYS_SVD.sigmas) == published["StableDiffusionVideoSigmas"]
    stable = VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012)
    for grid, name in ((AYS_SD15, ""), (AYS_SDXL, "XL")):
        sigmas = TimeGrid(sigmas=tuple(published[f"StableDiffusion{name}Sigmas"]))
        pairs, same = (steps_over(spec_of(stable), None, g) for g in (grid, sigmas))
        assert len(pairs) == grid.count == sigmas.count == 10
        np.testing.assert_allclose(levels(pairs), levels(same), rtol=0.03)
    video = spec_of(VESchedule.edm(sigma_max=700.0))
    assert levels(steps_over(video, None, AYS_SVD))[0] == 700.0


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_shifted_flow_is_diffusers(shift):
    """diffusers shifts the lower end of its linspace, and then all of it again."""
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    grid = ShiftedGrid(shift, LinspaceGrid(last=1000 * scheduler.sigma_min - 1))
    spec = spec_of(FlowSchedule())
    for steps in (2, 5, 28):
        scheduler.set_timesteps(steps)
        pairs = steps_over(spec, steps, grid)
        np.testing.assert_allclose(levels(pairs), scheduler.sigmas[:-1].numpy(), rtol=1e-5)
        np.testing.assert_allclose(times(pairs), scheduler.timesteps.numpy(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_resolution_shift_is_fluxs(kind):
    diffusers = pytest.importorskip("diffusers")
    for tokens, steps in itertools.product((256, 1024, 4096), (4, 28)):
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, time_shift_type=kind, shift_terminal=0.02
        )
        slope = (1.15 - 0.5) / (4096 - 256)  # get_lin_function of Flux's own sampling.py
        mu = slope * tokens + (0.5 - slope * 256)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
        grid = ShiftedGrid(flow_shift(tokens, kind=kind), "trailing", terminal=0.02)
        got = levels(steps_over(spec_of(FlowSchedule()), steps, grid))
        np.testing.assert_allclose(got, scheduler.sigmas[:-1].numpy(), rtol=1e-5)


def test_a_shift_is_a_factor_on_the_noise_to_signal_ratio():
    plain = steps_over(spec_of(FlowSchedule()), 10, "linspace")
    shifted = steps_over(spec_of(FlowSchedule()), 10, ShiftedGrid(3.0, "linspace"))
    for (a, _), (b, _) in zip(plain[1:], shifted[1:], strict=True):
        assert b.lam == pytest.approx(a.lam - np.log(3.0), rel=1e-9)


@pytest.mark.parametrize("name", ["karras", "exponential", "beta"])
def test_noise_grids_of_a_flow_are_diffusers(name):
    diffusers = pytest.importorskip("diffusers")
    pytest.importorskip("scipy")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(**{f"use_{name}_sigmas": True})
    scheduler.set_timesteps(14)
    got = levels(steps_over(spec_of(FlowSchedule()), 14, name))
    np.testing.assert_allclose(got, scheduler.sigmas[:-1].numpy(), rtol=2e-5)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: TimeGrid(), ValueError, "one of them"),
        (lambda: TimeGrid(times=(1,), sigmas=(1,)), ValueError, "one of them"),
        (lambda: TimeGrid(times=()), ValueError, "at least"),
        (lambda: TimeGrid(times=(-1,)), ValueError, "one network call at least"),
        (lambda: TimeGrid(times=(3, 5)), ValueError, "must fall, from noise to data"),
        (lambda: TimeGrid(sigmas=(3.0, 3.0)), ValueError, "must fall"),
        (lambda: TimeGrid(sigmas=(3.0, -1.0)), ValueError, "end at 0, the clean end"),
        (lambda: TimeGrid(sigmas=(float("inf"), 1.0)), ValueError, "not finite"),
        (lambda: TimeGrid(times="999"), TypeError, "sequence of numbers"),
        (lambda: KarrasGrid(rho=0), ValueError, "rho=0 is out of range"),
        (lambda: KarrasGrid(sigma_min=-1.0), ValueError, "sigma_min=-1.0 is out of range"),
        (
            lambda: ExponentialGrid(sigma_max=True),
            TypeError,
            "sigma_max must be a number; got bool True",
        ),
        (lambda: KarrasGrid(rho="a"), TypeError, "rho must be a number; got str 'a'"),
        (lambda: KarrasGrid(rho=np.inf), ValueError, "rho must be finite"),
        (lambda: BetaGrid(beta=None), TypeError, "beta must be a number"),
        (lambda: LinspaceGrid(first="a"), TypeError, "first must be a number"),
        (lambda: LinspaceGrid(drop_last=1), TypeError, "drop_last must be True or False"),
        (lambda: LeadingGrid(offset=0.5), TypeError, "offset must be a whole number"),
        (lambda: TimeGrid(times=(3, 1), stop=1), TypeError, "stop must be True or False"),
        (lambda: ShiftedGrid("3"), TypeError, "shift must be a number"),
        (lambda: ShiftedGrid(3.0, 7), TypeError, "must be a name"),
        (lambda: BetaGrid(alpha=0.0), ValueError, "alpha=0.0"),
        (lambda: BetaGrid(over="time"), ValueError, "allowed: sigma, index"),
        (lambda: BetaGrid(over="index", sigma_max=1.0), ValueError, "over='sigma'"),
        (lambda: ShiftedGrid(0.0), ValueError, "shift=0.0"),
        (lambda: ShiftedGrid(3.0, "even"), ValueError, "allowed: trailing"),
        (lambda: ShiftedGrid(3.0, terminal=1.0), ValueError, r"\(0, 1\)"),
        (lambda: flow_shift(0), ValueError, "tokens >= 1"),
        (lambda: flow_shift(256, kind="cubic"), ValueError, "allowed: exponential, linear"),
    ],
)
def test_bad_grids_are_refused_when_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("schedule", "grid", "steps", "error", "message"),
    [
        ("linear", "even", 5, ValueError, "allowed: trailing, leading, linspace, karras"),
        ("linear", 3, 5, TypeError, "must be a name"),
        ("linear", TimeGrid(times=(5, 3)), 3, ValueError, "the given grid has 2; leave steps out"),
        ("linear", TimeGrid(times=(1000, 3)), None, ValueError, "from 999 to 0"),
        ("linear", TimeGrid(times=(7, -0.5)), None, ValueError, "no training index"),
        ("linear", TimeGrid(sigmas=(500.0, 3)), None, ValueError, "outside of this schedule's"),
        ("linear", KarrasGrid(sigma_min=1e-4), 5, ValueError, "outside of this schedule's"),
        ("linear", KarrasGrid(sigma_max=1e-4), 5, ValueError, "sigma_min < sigma_max"),
        ("linear", LeadingGrid(offset=2000), 5, ValueError, r"leaves the training indices 0 \.\. "),
        ("linear", LinspaceGrid(first=3, last=1), 9, ValueError, "visits a time twice"),
        ("linear", ShiftedGrid(3.0), 5, ValueError, "for flow schedules; this one is 'vp'"),
        ("edm", TimeGrid(sigmas=(700.0, 3)), None, ValueError, "0 to 80"),
        ("flow", TimeGrid(sigmas=(1.5, 0.3)), None, ValueError, r"\[0, 1\]"),
        ("flow", ShiftedGrid(3.0, terminal=0.1), 1, ValueError, "two steps at least"),
        ("flow", "karras", 0, ValueError, "1 to 1000 on this schedule"),
        ("flow", "karras", True, TypeError, "whole number"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused(schedule, grid, steps, error, message):
    with pytest.raises(error, match=message):
        steps_over(spec_of(SCHEDULES[schedule]), steps, grid)


def test_points_below_the_end_are_refused():
    spec = spec_of(VESchedule(), final="first")
    with pytest.raises(ValueError, match="points above the end"):
        steps_over(spec, None, TimeGrid(sigmas=(1.0, 0.001)))


def test_steps_are_twenty_or_the_schedules_unless_given():
    assert len(steps_over(spec_of(VPSchedule()))) == 20
    assert len(steps_over(spec_of(VPSchedule(steps=8)))) == 8


@pytest.mark.parametrize(
    ("grid", "want"),
    [
        ("leading", LeadingGrid(offset=3)),
        (LeadingGrid(offset=0), LeadingGrid(offset=0)),
        ("trailing", TrailingGrid()),
        (KarrasGrid(), KarrasGrid()),
        (KarrasGrid(ends=LeadingGrid()), KarrasGrid(ends=LeadingGrid(offset=3))),
        (ShiftedGrid(2.0, "leading"), ShiftedGrid(2.0, LeadingGrid(offset=3))),
    ],
)
def test_a_specs_offset_is_that_of_leading_grids_without_one(grid, want):
    spec = spec_of(VPSchedule(), grid=grid, grid_offset=3)
    assert spec.grid_of() == want == spec_of(VPSchedule(), grid_offset=3).grid_of(grid)
    assert spec.grid == grid  # as given: bundles hold it so
    other = KarrasGrid(rho=3.0)
    assert spec.grid_of(other) == other
