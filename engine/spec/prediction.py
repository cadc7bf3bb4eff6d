"""What a network predicts, as the affine map ``x0 = p_x x + p_m m`` of state and output.

====================  ==========================  ==========================
prediction            p_x                         p_m
====================  ==========================  ==========================
``epsilon``           1 / alpha                   -sigma / alpha
``sample``            0                           1
``v_prediction``      alpha / (alpha² + sigma²)   -sigma / (alpha² + sigma²)
``flow``              1 / (alpha + sigma)         -sigma / (alpha + sigma)
``score``             1 / alpha                   sigma² / alpha
``mean``              -B / A                      1 / A
``edm``               c_skip                      c_out
``edm_v``             c_skip                      -c_out
``average_velocity``  1 / (alpha + sigma)         -sigma / (alpha + sigma)
``jump``              -sigma_r / d                sigma / d
====================  ==========================  ==========================

``flow`` is eps - x0; ``score`` is grad log p; ``mean`` is E[x_s | x_t] for the *training* step
t -> s, with r = alpha_t / alpha_s, v = sigma_t² - r² sigma_s², A = alpha_s v / sigma_t²,
B = r sigma_s² / sigma_t²; ``edm`` is the raw output F of a preconditioned network fed c_in x, with
n = sqrt(alpha² sigma_data² + sigma²): c_in = 1 / n, c_skip = alpha sigma_data² / n²,
c_out = sigma sigma_data / n, which is Karras' table of y = x / alpha at level sigma / alpha.
``edm_v`` is -F: the v of TrigFlow and of Stable Audio, and ``v_prediction`` where n = 1.

The last two are of networks of two times, which are fed the time r that the step goes to.
``average_velocity`` is u in x_r = x_t - (t - r) u, of a flow, and u at r = t its velocity; ``jump``
is the state x_r itself, d = alpha_r sigma - alpha sigma_r. Their x0 is where the line from x_t
through x_r meets the data: exact at r = 0, an estimate elsewhere, which no step uses.

References: Ho et al. 2020 (eq. 7, 15); Salimans & Ho 2022 (v); Karras et al. 2022 (table 1); Lu &
Song 2024, arXiv:2410.11081 (TrigFlow).
"""

from __future__ import annotations

import math

from revstep.engine.errors import ProgramError
from revstep.engine.nearest import unknown

OVER_AN_INTERVAL = ("average_velocity", "jump")
PREDICTIONS = (
    *("epsilon", "sample", "v_prediction", "flow", "score", "mean", "edm", "edm_v"),
    *OVER_AN_INTERVAL,
)
PRECONDITIONED = ("edm", "edm_v")  # fed c_in x


def x0_coefficients(
    prediction: str,
    alpha: float,
    sigma: float,
    *,
    training_end: tuple[float, float] | None = None,
    end: tuple[float, float] | None = None,
    sigma_data: float = 0.5,
) -> tuple[float, float]:
    """(p_x, p_m) of ``x0 = p_x x + p_m m`` where the state is ``alpha x0 + sigma eps``.

    Args:
        prediction: One of ``PREDICTIONS``.
        alpha: Signal scale at the network's time.
        sigma: Noise scale at the network's time.
        training_end: (alpha_s, sigma_s) at the end of the training step; ``mean`` only.
        end: (alpha_r, sigma_r) where the row goes; ``jump`` only.
        sigma_data: Standard deviation of the data; ``edm`` and ``edm_v`` only.

    Raises:
        ProgramError: The denoised estimate is not determined there (epsilon at alpha = 0, say).
    """
    match prediction:
        case "epsilon" | "score":
            if alpha == 0.0:
                raise ProgramError(
                    f"a network that predicts {prediction!r} says nothing of x0 where alpha = 0 "
                    "(zero terminal SNR); train with 'v_prediction', or start the grid later"
                )
            return 1.0 / alpha, (-sigma if prediction == "epsilon" else sigma**2) / alpha
        case "sample":
            return 0.0, 1.0
        case "v_prediction":
            norm = alpha**2 + sigma**2
            return alpha / norm, -sigma / norm
        case "flow" | "average_velocity":
            return 1.0 / (alpha + sigma), -sigma / (alpha + sigma)
        case "jump":
            return _jump_coefficients(alpha, sigma, end)
        case "mean":
            return _mean_coefficients(alpha, sigma, training_end)
        case "edm" | "edm_v":
            norm = sigma**2 + (alpha * sigma_data) ** 2
            c_out = sigma * sigma_data / math.sqrt(norm)
            return alpha * sigma_data**2 / norm, c_out if prediction == "edm" else -c_out
        case _:
            raise ValueError(unknown("prediction", prediction, PREDICTIONS))


def input_scale(prediction: str, alpha: float, sigma: float, sigma_data: float) -> float:
    """c_in, the network's factor of the state: 1 / n for ``edm`` and ``edm_v``, 1 for others."""
    if prediction not in PRECONDITIONED:
        return 1.0
    return 1.0 / math.sqrt(sigma**2 + (alpha * sigma_data) ** 2)


def _jump_coefficients(
    alpha: float, sigma: float, end: tuple[float, float] | None
) -> tuple[float, float]:
    if end is None:
        raise ValueError("'jump' needs the (alpha, sigma) where the row goes")
    alpha_r, sigma_r = end
    if (apart := alpha_r * sigma - alpha * sigma_r) == 0.0:
        raise ProgramError(
            "a network that predicts the state at the time that it jumps to ('jump') says nothing "
            "where that is the state's own: sample it with 'flow_map', over a grid that falls to "
            "its end"
        )
    return -sigma_r / apart, sigma / apart


def _mean_coefficients(
    alpha: float, sigma: float, training_end: tuple[float, float] | None
) -> tuple[float, float]:
    if training_end is None:
        raise ValueError("'mean' needs the (alpha, sigma) at the end of the training step")
    alpha_s, sigma_s = training_end
    if alpha_s == 0.0 or sigma == 0.0:
        raise ProgramError(
            "a network that predicts 'mean' says nothing of x0 where sigma = 0, or where alpha = 0 "
            "at the end of its training step; use another grid"
        )
    r = alpha / alpha_s
    gain = alpha_s * (sigma**2 - r**2 * sigma_s**2) / sigma**2
    if gain == 0.0:
        raise ProgramError("'mean' over a training step of length 0 says nothing of x0")
    return -(r * sigma_s**2 / sigma**2) / gain, 1.0 / gain
