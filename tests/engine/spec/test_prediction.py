import numpy as np
import pytest

from revstep import DenoiserSpec, build_program
from revstep.engine.spec.prediction import PREDICTIONS, x0_coefficients
from revstep.errors import ProgramError
from revstep.kernels import columns as col

X0, EPS = 0.7, -1.3


@pytest.mark.parametrize(("alpha", "sigma"), [(0.9, np.sqrt(1 - 0.81)), (0.05, 0.9987), (1.0, 7.0)])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_x0_is_recovered_from_what_the_network_predicts(prediction, alpha, sigma):
    x = alpha * X0 + sigma * EPS
    end = (alpha * 1.02, sigma * 0.98) if alpha < 1 else (1.0, sigma * 0.9)
    r = alpha / end[0]
    v = sigma**2 - r**2 * end[1] ** 2
    sigma_data = 0.5
    outputs = {
        "epsilon": EPS,
        "sample": X0,
        # x and v as a rotation: v = alpha eps - sigma x0 (Salimans & Ho 2022)
        "v_prediction": alpha * EPS - sigma * X0,
        "flow": EPS - X0,
        "average_velocity": EPS - X0,
        "jump": end[0] * X0 + end[1] * EPS,
        "score": -EPS / sigma,
        "mean": (end[0] * v * X0 + r * end[1] ** 2 * x) / sigma**2,
        "edm": raw_output(x / alpha, sigma / alpha, sigma_data),
        "edm_v": -raw_output(x / alpha, sigma / alpha, sigma_data),
    }
    p_x, p_m = x0_coefficients(
        prediction, alpha, sigma, training_end=end, end=end, sigma_data=sigma_data
    )
    assert p_x * x + p_m * outputs[prediction] == pytest.approx(X0, rel=1e-9)


def raw_output(y, sigma, sigma_data):
    """F of D(y; sigma) = c_skip y + c_out F (Karras et al. 2022, table 1)."""
    norm = np.hypot(sigma, sigma_data)
    return (X0 - (sigma_data / norm) ** 2 * y) / (sigma * sigma_data / norm)


@pytest.mark.parametrize("prediction", ["epsilon", "score"])
def test_alpha_zero_is_refused_with_the_fix(prediction):
    with pytest.raises(ProgramError, match="train with 'v_prediction'"):
        x0_coefficients(prediction, 0.0, 1.0)


def test_v_prediction_has_its_limit_at_alpha_zero():
    assert x0_coefficients("v_prediction", 0.0, 1.0) == (0.0, -1.0)


def test_unknown_prediction_is_named():
    with pytest.raises(ValueError, match="unknown prediction 'x'; allowed: epsilon"):
        x0_coefficients("x", 1.0, 1.0)


def test_an_edm_network_is_fed_what_the_paper_says():
    """D(x) = c_skip x + c_out F(c_in x, c_noise) (Karras et al. 2022, eq. 7 and table 1)."""
    spec = DenoiserSpec.edm((2,), sigma_data=0.7)
    rows = build_program(spec, "ddim", 18).rows[:-1]
    sigma = (80 ** (1 / 7) + np.arange(18) / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    total = sigma**2 + 0.7**2
    for column, want in (
        (col.TIME, np.log(sigma) / 4),
        (col.C_IN, 1 / np.sqrt(total)),
        (col.P_X, 0.7**2 / total),
        (col.P_M, sigma * 0.7 / np.sqrt(total)),
    ):
        np.testing.assert_allclose(rows[:, column], want, rtol=1e-12)
