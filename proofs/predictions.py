"""What a perfect network's output is: the predictions' definitions, not the engine's table."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import DenoiserSpec

Float64 = NDArray[np.float64]


def natural_time(spec: DenoiserSpec, time: float) -> float:
    """Natural time of the schedule, from the time that the network gets.

    Raises:
        ValueError: A description of time that the proofs have no use for.
    """
    match spec.time.kind, spec.schedule.kind:
        case "index", _:
            return float(spec.schedule.from_index(time))
        case ("unit", "flow") | ("sigma", "ve"):
            return time
        case "angle", "trigflow":
            return time
        case "thousand", "flow":
            return time / 1000.0
        case "log_sigma", "ve":
            return math.exp(4.0 * time)
    raise ValueError(f"time kind {spec.time.kind!r} is not for a {spec.schedule.kind} schedule")


def prediction_of(spec: DenoiserSpec, x: Float64, x0: Float64, eps: Float64, t: float) -> Float64:
    """The spec's prediction at natural time ``t``, where x = alpha x0 + sigma eps."""
    alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(t))
    match spec.prediction:
        case "epsilon":
            return eps
        case "sample":
            return x0
        case "v_prediction":
            return alpha * eps - sigma * x0
        case "flow":
            return eps - x0
        case "score":
            return -eps / sigma
        case "edm" | "edm_v":
            data, sign = spec.sigma_data, 1.0 if spec.prediction == "edm" else -1.0
            if alpha == 0.0:
                return sign * x0 / data
            y, level = x / alpha, sigma / alpha  # F of D = c_skip y + c_out F(c_in y)
            norm = math.hypot(level, data)
            return sign * (x0 - (data / norm) ** 2 * y) / (level * data / norm)
    # mean of q(x_s | x_t, x0), s one training step before t (Ho et al. 2020, eq. 7)
    index = max(float(spec.schedule.index(t)) - spec.training_step, -1.0)
    alpha_s, sigma_s = (
        float(v) for v in spec.schedule.alpha_sigma(spec.schedule.from_index(index))
    )
    ratio = alpha / alpha_s
    variance = sigma**2 - ratio**2 * sigma_s**2
    return (alpha_s * variance * x0 + ratio * sigma_s**2 * x) / sigma**2
