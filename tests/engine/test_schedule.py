import numpy as np
import pytest

from revstep.engine import FlowSchedule, VESchedule, VPSchedule
from revstep.engine.schedule import schedule_from_dict


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


@pytest.mark.parametrize("schedule", [VPSchedule(), VESchedule(), FlowSchedule()])
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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VPSchedule(steps=1), "from 2 to"),
        (lambda: VPSchedule(betas="cosine"), "allowed: linear"),
        (lambda: VPSchedule(beta_start=0.5, beta_end=0.1), "beta_start <= beta_end"),
        (lambda: VPSchedule(betas="trained"), "trained_betas go with"),
        (lambda: VPSchedule(steps=3, betas="trained", trained_betas=(0.1,)), "1 values for 3"),
        (lambda: VESchedule(sigma_min=2.0, sigma_max=1.0), "sigma_min < sigma_max"),
        (lambda: VPSchedule().alpha_sigma(1000), r"\[0, 999\]"),
        (lambda: FlowSchedule().alpha_sigma(1.5), r"\[0, 1\]"),
        (lambda: VESchedule().alpha_sigma(-1.0), "not negative"),
        (lambda: schedule_from_dict({"kind": "vpp"}), "allowed: vp, ve, flow"),
        (lambda: schedule_from_dict({"kind": "ve", "beta": 1}), "unknown field"),
    ],
)
def test_bad_values_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
