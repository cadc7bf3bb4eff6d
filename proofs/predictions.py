"""What a perfect network's output is: the predictions' definitions, not the engine's table."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import DenoiserSpec

Float64 = NDArray[np.float64]


def natural_time(spec: DenoiserSpec, time: float, kind: str | None = None) -> float:
    """Natural time of the schedule, from the time that the network gets.

    Args:
        spec: The denoiser.
        time: The number.
        kind: Its unit; None: that of the spec's time.

    Raises:
        ValueError: A description of time that the proofs have no use for.
    """
    kind = kind or spec.time.kind
    match kind, spec.schedule.kind:
        case "index", _:
            return float(spec.schedule.from_index(time))
        case ("unit" | "sigma", "flow") | ("sigma", "ve"):
            return time
        case (("angle" | "unit"), "trigflow"):
            return time if spec.time.kind == "angle" else time * math.pi / 2.0
        case "thousand", "flow":
            return time / 1000.0
        case "log_sigma", "ve":
            return math.exp(4.0 * time)
    raise ValueError(f"time kind {kind!r} is not for a {spec.schedule.kind} schedule")


def interval_end(spec: DenoiserSpec, time: float, second: float) -> tuple[float, float]:
    """(alpha, sigma) where a row goes, from both times that the network gets."""
    assert spec.second_time is not None
    kind = spec.second_time.kind
    if spec.second_time.of == "length":
        assert kind == spec.time.kind
        second = time - second
    alpha, sigma = spec.schedule.alpha_sigma(natural_time(spec, second, kind))
    return float(alpha), float(sigma)


def prediction_of(
    spec: DenoiserSpec,
    x: Float64,
    x0: Float64,
    eps: Float64,
    t: float,
    end: tuple[float, float] | None = None,
) -> Float64:
    """The spec's prediction at natural time ``t``, where x = alpha x0 + sigma eps.

    Over the interval to the (alpha, sigma) of ``end``, x goes to alpha x0 + sigma eps there.
    """
    alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(t))
    match spec.prediction:
        case "epsilon":
            return eps
        case "sample":
            return x0
        case "v_prediction":
            return alpha * eps - sigma * x0
        case "flow" | "average_velocity":
            return eps - x0
        case "jump":
            assert end is not None
            return end[0] * x0 + end[1] * eps
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
