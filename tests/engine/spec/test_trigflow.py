"""TrigFlow, and EDM's preconditioning for any (alpha, sigma)."""

import math

import numpy as np
import pytest

from revstep import DenoiserSpec, TimeInput, build_program
from revstep.engine.spec.prediction import input_scale, x0_coefficients
from revstep.grids import TimeGrid
from revstep.kernels import columns as col
from revstep.schedules import FlowSchedule, TrigFlowSchedule, VPSchedule

ANGLES = np.array([math.pi / 2, 1.3, 0.8, 0.2, 0.01])


def test_a_network_is_fed_the_angle_and_a_state_of_unit_spread():
    """D = cos(t) x - sin(t) sigma_data F(x / sigma_data, t) (Lu & Song 2024, eq. 6)."""
    grid = TimeGrid(times=tuple(1000 * ANGLES / (math.pi / 2) - 1))
    rows = build_program(DenoiserSpec.trigflow((2,), sigma_data=0.7), "ddim", grid=grid).rows[:-1]
    for column, want in (
        (col.TIME, ANGLES),
        (col.C_IN, np.full(5, 1 / 0.7)),
        (col.P_X, np.cos(ANGLES)),
        (col.P_M, -0.7 * np.sin(ANGLES)),
    ):
        np.testing.assert_allclose(rows[:, column], want, rtol=1e-12, atol=1e-15)


def test_alpha_is_0_at_the_end_and_nowhere_else():
    alpha, sigma = TrigFlowSchedule(sigma_data=0.7).alpha_sigma([math.pi / 2, 1.5708 - 4e-6, 0.0])
    assert alpha[0] == 0.0 < alpha[1] < alpha[2] == 1.0
    assert (sigma[0], sigma[2]) == (0.7, 0.0)
    for outside in (1.5708, -1e-9):
        with pytest.raises(ValueError, match=r"angle in \[0, pi/2\]"):
            TrigFlowSchedule().alpha_sigma(outside)
    with pytest.raises(ValueError, match="not negative"):
        TrigFlowSchedule().from_level(-1.0)


@pytest.mark.parametrize("sigma_data", [0, -1.0, math.inf])
def test_the_spread_is_a_positive_number(sigma_data):
    with pytest.raises(ValueError, match="sigma_data"):
        TrigFlowSchedule(sigma_data=sigma_data)


@pytest.mark.parametrize(("kind", "want"), [("unit", 0.5), ("thousand", 500.0), ("angle", 0.25)])
def test_the_time_is_fed_as_its_share_of_the_quarter_turn_or_as_it_is(kind, want):
    spec = DenoiserSpec.trigflow((2,), time=TimeInput(kind=kind))
    want = want * math.pi if kind == "angle" else want
    row = build_program(spec, "ddim", grid=TimeGrid(times=(499.0,))).rows[0]
    assert row[col.TIME] == pytest.approx(want, rel=1e-12)


def test_with_data_of_spread_1_it_is_v_prediction():
    alpha, sigma = TrigFlowSchedule(sigma_data=1.0).alpha_sigma(ANGLES)
    for a, s in zip(alpha, sigma, strict=True):
        v = x0_coefficients("v_prediction", a, s)
        assert x0_coefficients("edm_v", a, s, sigma_data=1.0) == pytest.approx(v, abs=1e-15)


@pytest.mark.parametrize("schedule", [VPSchedule(), FlowSchedule()])
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_preconditioning_is_karras_of_the_unscaled_state(schedule, sigma_data):
    """y = x / alpha of noise level sigma / alpha has c_in, c_skip and c_out of table 1."""
    alpha, sigma = schedule.alpha_sigma(schedule.from_index([0.0, 100.0, 700.0, 998.0]))
    for a, s in zip(alpha, sigma, strict=True):
        norm = math.hypot(s / a, sigma_data)
        want = ((sigma_data / norm) ** 2 / a, s / a * sigma_data / norm)
        assert x0_coefficients("edm", a, s, sigma_data=sigma_data) == pytest.approx(want, rel=1e-12)
        assert input_scale("edm", a, s, sigma_data) == pytest.approx(1 / norm / a, rel=1e-12)


def test_preconditioning_has_its_limit_at_alpha_zero():
    assert x0_coefficients("edm", 0.0, 2.0, sigma_data=0.7) == (0.0, 0.7)
    assert input_scale("edm", 0.0, 2.0, 0.7) == 0.5


@pytest.mark.parametrize("name", ["VPSchedule", "RectifiedSchedule", "VESchedule", "DecaySchedule"])
def test_it_is_azulas_karras_denoiser(name):
    """azula 0.11: data of spread 1, for any of its schedules; in float64."""
    pytest.importorskip("azula")
    torch = pytest.importorskip("torch")
    from azula import noise
    from azula.denoise import KarrasDenoiser

    class Backbone(torch.nn.Module):
        def forward(self, x, t):
            self.fed = float(x[0]), float(t)
            return torch.tanh(x) + t

    schedule = getattr(noise, name)()
    backbone = Backbone()
    backbone.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))
    denoiser = KarrasDenoiser(backbone, schedule)
    x = 0.8
    for t in torch.linspace(0.05, 0.95, 7, dtype=torch.float64):
        want = float(denoiser(torch.tensor([x], dtype=torch.float64), t).mean.detach())
        alpha, sigma = (float(v) for v in schedule(t))
        c_in, log_level = input_scale("edm", alpha, sigma, 1.0), math.log(sigma / alpha)
        p_x, p_m = x0_coefficients("edm", alpha, sigma, sigma_data=1.0)
        assert backbone.fed == pytest.approx((c_in * x, log_level), rel=1e-12, abs=1e-12)
        got = p_x * x + p_m * (math.tanh(c_in * x) + log_level)
        assert got == pytest.approx(want, rel=1e-12)
