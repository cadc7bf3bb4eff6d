import json

import numpy as np
import pytest

from revstep.engine.spec.schedule import schedule_from_dict
from revstep.schedules import (
    ContinuousVPSchedule,
    FlowSchedule,
    TrigFlowSchedule,
    VESchedule,
    VPSchedule,
)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_vp_table_equals_diffusers(betas, zero_snr):
    diffusers = pytest.importorskip("diffusers")
    ours = VPSchedule(betas=betas, zero_terminal_snr=zero_snr).alphas_cumprod
    theirs = diffusers.DDIMScheduler(
        beta_schedule=betas, rescale_betas_zero_snr=zero_snr
    ).alphas_cumprod
    np.testing.assert_allclose(ours, theirs.double().numpy(), rtol=5e-5, atol=1e-9)


def test_vp_preserves_variance_and_zero_terminal_snr_is_exact():
    schedule = VPSchedule(betas="scaled_linear", zero_terminal_snr=True)
    alpha, sigma = schedule.alpha_sigma(np.arange(1000))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-14)
    assert alpha[-1] == 0.0
    assert sigma[-1] == 1.0
    assert np.all(np.diff(alpha) < 0)


def test_trained_betas_are_the_table():
    betas = np.linspace(0.01, 0.2, 10)
    schedule = VPSchedule(steps=10, betas="trained", trained_betas=tuple(betas))
    np.testing.assert_allclose(schedule.alphas_cumprod, np.cumprod(1 - betas), rtol=1e-15)


@pytest.mark.parametrize(
    "schedule", [VPSchedule(), VESchedule(), FlowSchedule(), ContinuousVPSchedule()]
)
def test_clean_end_is_index_minus_one(schedule):
    alpha, sigma = schedule.alpha_sigma(schedule.clean)
    assert (alpha, sigma) == (1.0, 0.0)
    assert schedule.from_index(-1) == schedule.clean
    inner = np.array([0.0, 1.0, 500.0, 999.0])
    np.testing.assert_allclose(schedule.index(schedule.from_index(inner)), inner, atol=1e-9)


def test_ve_is_geometric_between_its_ends():
    schedule = VESchedule(steps=11, sigma_min=0.01, sigma_max=100.0)
    _, sigma = schedule.alpha_sigma(schedule.from_index(np.arange(11)))
    np.testing.assert_allclose(sigma, 10.0 ** np.linspace(-2, 2, 11), rtol=1e-12)


def test_vp_between_indices_is_linear_in_log_snr():
    schedule = VPSchedule()
    alpha, sigma = schedule.alpha_sigma(np.array([400.0, 400.25, 401.0]))
    lam = np.log(alpha / sigma)
    assert lam[1] == pytest.approx(0.75 * lam[0] + 0.25 * lam[2], rel=1e-12)


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("betas", ["linear", "sigmoid"])
def test_ddpm_tables_are_diffusers(betas, zero_snr):
    """Only DDPMScheduler knows the sigmoid (GeoDiff's)."""
    diffusers = pytest.importorskip("diffusers")
    settings = {"beta_start": 1e-5, "beta_end": 0.015}
    ours = VPSchedule(betas=betas, zero_terminal_snr=zero_snr, **settings).alphas_cumprod
    theirs = diffusers.DDPMScheduler(
        beta_schedule=betas, rescale_betas_zero_snr=zero_snr, **settings
    ).alphas_cumprod
    np.testing.assert_allclose(ours, theirs.double().numpy(), rtol=5e-5, atol=1e-9)


def test_own_tables_are_met():
    base = VPSchedule(betas="squaredcos_cap_v2", steps=200)
    abar = base.alphas_cumprod
    sigmas = np.sqrt(1 / abar - 1)
    for made in (
        VPSchedule.from_alphas_cumprod(abar),
        VPSchedule.from_betas(base.beta_table),
        VPSchedule.from_sigmas(sigmas),
    ):
        assert made.steps == 200
        np.testing.assert_allclose(made.alphas_cumprod, abar, rtol=1e-12)
        np.testing.assert_allclose(made.level(np.arange(200.0)), sigmas, rtol=1e-9)
        assert schedule_from_dict(json.loads(json.dumps(made.to_dict()))) == made
    zero = VPSchedule.from_alphas_cumprod([0.9, 0.5, 0.0])
    assert zero.alpha_sigma(2.0) == (0.0, 1.0)
    exploding = VESchedule.from_sigmas([0.1, 0.5, 3.0])
    assert (exploding.steps, exploding.sigma_min, exploding.sigma_max) == (3, 0.1, 3.0)
    np.testing.assert_array_equal(exploding.from_index([-1, 0, 1, 1.5, 2]), [0, 0.1, 0.5, 1.75, 3])
    np.testing.assert_allclose(exploding.index([0.0, 0.1, 0.5, 1.75, 3.0]), [-1, 0, 1, 1.5, 2])
    assert schedule_from_dict(json.loads(json.dumps(exploding.to_dict()))) == exploding


def test_edm_levels_are_the_papers():
    """Karras et al. 2022, eq. 5, counted from the noise: index T - 1 - i."""
    schedule = VESchedule.edm(steps=18)
    i = np.arange(18)
    rho, low, high = 7.0, 0.002, 80.0
    want = (high ** (1 / rho) + i / 17 * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    np.testing.assert_allclose(schedule.from_index(17 - i), want, rtol=1e-12)
    np.testing.assert_allclose(schedule.index(want), 17 - i, atol=1e-9)
    assert schedule.from_index([0, 17]).tolist() == [0.002, 80.0]


EVERY = [
    VPSchedule(),
    VPSchedule(betas="sigmoid"),
    VPSchedule(betas="scaled_linear", zero_terminal_snr=True),
    VESchedule(),
    VESchedule.edm(),
    VESchedule.from_sigmas(np.geomspace(0.01, 9.0, 1000)),
    FlowSchedule(),
    ContinuousVPSchedule(),
    ContinuousVPSchedule(curve="sigmoid"),
    TrigFlowSchedule(),
    VPSchedule(snr_shift=3.0, zero_terminal_snr=True),
]


@pytest.mark.parametrize("schedule", EVERY)
def test_times_levels_and_indices_are_inverses(schedule):
    index = np.array([-1.0, 0.0, 0.3, 1.0, 17.25, 500.5, 998.0])
    t = schedule.from_index(index)
    np.testing.assert_allclose(schedule.index(t), index, atol=1e-9)
    np.testing.assert_allclose(schedule.from_level(schedule.level(t)), t, rtol=1e-9, atol=1e-9)
    alpha, sigma = schedule.alpha_sigma(t[1:])
    np.testing.assert_allclose(
        schedule.from_lambda(np.log(alpha / sigma)), t[1:], rtol=1e-9, atol=1e-8
    )
    assert schedule.from_level(0.0) == schedule.clean
    low, high = schedule.level_range
    assert 0.0 < low < high < np.inf


def test_levels_are_sigma_over_alpha_and_a_flows_time():
    alpha, sigma = VPSchedule().alpha_sigma(400.0)
    assert VPSchedule().level(400.0) == sigma / alpha
    assert FlowSchedule().level(0.25) == 0.25
    zero = VPSchedule(zero_terminal_snr=True)
    assert zero.level(999.0) == np.inf
    assert zero.from_level(np.inf) == 999.0


def test_a_level_past_the_end_by_a_rounding_is_the_end():
    stable = VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012)
    assert float(stable.level(999.0)) < 14.615  # as published grids round it
    assert stable.from_level(14.615) == 999.0
    with pytest.raises(ValueError, match=r"14\.7 lies outside .* 0\.029167. to 14\.6146"):
        stable.from_level(14.7)


def test_vp_and_ve_describe_one_process():
    """x / alpha of a VP process is the VE process of the same sigma / alpha (Song et al. 2021)."""
    vp = VPSchedule()
    ve = VESchedule.from_sigmas(vp.level(np.arange(1000.0)))
    index = np.array([0.0, 10.0, 300.0, 999.0])
    np.testing.assert_allclose(ve.level(ve.from_index(index)), vp.level(index), rtol=1e-12)
    np.testing.assert_allclose(vp.from_level(ve.from_index(index)), index, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VPSchedule(steps=1), "whole numbers, 2 to"),
        (lambda: VPSchedule(betas="cosine"), "allowed: linear"),
        (lambda: VPSchedule(beta_start=0.5, beta_end=0.1), "beta_start <= beta_end"),
        (lambda: VPSchedule(betas="trained"), "trained_betas go with"),
        (lambda: VPSchedule(steps=3, betas="trained", trained_betas=(0.1,)), "1 values for 3"),
        (lambda: VESchedule(sigma_min=2.0, sigma_max=1.0), "sigma_min < sigma_max"),
        (lambda: VPSchedule(betas="trained", steps=2, trained_betas=(0.1, 2)), "must lie in"),
        (lambda: VPSchedule.from_betas([0.1]), "whole numbers, 2 to"),
        (lambda: VPSchedule.from_alphas_cumprod([0.5, 0.9]), "must fall from below 1"),
        (lambda: VPSchedule.from_alphas_cumprod([1.0, 0.9]), "must fall from below 1"),
        (lambda: VPSchedule.from_alphas_cumprod([]), "must fall from below 1"),
        (lambda: VPSchedule.from_sigmas([3.0, 1.0]), "reverse a falling list"),
        (lambda: VPSchedule.from_sigmas([0.0, 1.0]), "rise from above 0"),
        (lambda: VPSchedule.from_sigmas([0.1, np.nan]), "not finite"),
        (lambda: VESchedule.from_sigmas([3.0, 1.0]), "reverse the list"),
        (lambda: VESchedule(levels="even"), "allowed: geometric, karras, table"),
        (lambda: VESchedule(levels="table"), "sigmas go with"),
        (lambda: VESchedule(sigmas=(0.1, 1.0)), "sigmas go with"),
        (lambda: VESchedule(levels="karras", rho=0.0), "rho must be positive"),
        (lambda: VESchedule.edm().from_level(81.0), "outside of this schedule's training"),
        (lambda: FlowSchedule().from_level(1.1), "lies in"),
        (lambda: VPSchedule().from_level([1.0, 1e-5]), "1e-05 lies outside"),
        (lambda: VPSchedule().alpha_sigma(1000), r"\[0, 999\]"),
        (lambda: FlowSchedule().alpha_sigma(1.5), r"\[0, 1\]"),
        (lambda: VESchedule().alpha_sigma(-1.0), "not negative"),
        (lambda: schedule_from_dict({"kind": "vpp"}), "allowed: vp, vp_continuous, ve, flow"),
        (lambda: schedule_from_dict({"kind": "ve", "beta": 1}), "unknown field"),
    ],
)
def test_bad_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
