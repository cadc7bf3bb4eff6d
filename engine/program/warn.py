"""Warnings of programs that run but give broken samples; known from their numbers beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from revstep.engine.log import log
from revstep.engine.program.points import Point, network_index
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.parts import LEVEL_KINDS
from revstep.kernels import columns as col

DATA_COUNTS = 0.5  # a noise level, sigma / alpha, above which an estimate still needs the network
FAR = 50.0  # levels further apart than this break samples, where data counts beside the noise
FED_WRONG = 2.0  # a factor of the noise level: x0 is then wrong by up to as much
SAME = 1e-6  # noise levels that differ by a smaller part are one
DIVIDES_BY_ALPHA = ("epsilon", "score", "mean")  # predictions; the others' errors stay small
SMALL = 0.1  # differences of noise levels, where data is of size 1
GROWN = 100.0  # an error of 1 % of the noise, good for a network, is then as large as the data

Float64 = NDArray[np.float64]


def warn_of_program(
    spec: DenoiserSpec, rows: Float64, points: Sequence[Point], *, clip: bool
) -> None:
    """Warns, where the network is fed wrong times or its error grows.

    Args:
        spec: The denoiser.
        rows: The program's rows, float64 (N + 1, 32).
        points: Of the N calls, and of the end.
        clip: Whether x0 is clipped, which bounds what an error does.
    """
    if not _warn_of_rounding(spec, points[:-1]):
        _warn_of_repeats(points[:-1])
    if spec.prediction in DIVIDES_BY_ALPHA and not clip:
        _warn_of_growth(spec, rows, points)


def _warn_of_rounding(spec: DenoiserSpec, points: Sequence[Point]) -> bool:
    """Warns where the nearest whole index is of quite another noise level than the point.

    So at the noisy end of a squared-cosine schedule, whose last levels are far apart.

    Returns:
        Whether it warned.
    """
    schedule = spec.schedule
    if spec.time.kind in LEVEL_KINDS:
        return False
    if schedule.unit_time and spec.time.kind != "index":
        return False
    for at in points:
        if math.isnan(at.index) or at.sigma <= DATA_COUNTS * at.alpha:
            continue
        fed = network_index(spec, at.index)
        if fed == at.index:
            continue
        alpha, sigma = (float(v) for v in schedule.alpha_sigma(schedule.from_index(fed)))
        own, other = at.sigma * alpha, sigma * at.alpha
        if max(own, other) > FED_WRONG * min(own, other):
            log.warning(
                "the network takes whole training indices, and at noise level sigma / alpha = "
                "%.4g the nearest one is of level %.4g: samples may be off. Use a grid in "
                "indices (trailing, leading, linspace) or KarrasGrid(sigma_max=80), or, where the "
                "network takes fractions, the spec's TimeInput(fractions=True)",
                *(at.sigma / at.alpha, sigma / alpha if alpha else math.inf),
            )
            return True
    return False


def _warn_of_repeats(calls: Sequence[Point]) -> None:
    """Warns where the network is fed one time for states of several noise levels."""
    first_at: dict[float, Point] = {}
    repeated = []
    for at in calls:
        first = first_at.setdefault(at.time, at)
        if not math.isclose(first.level, at.level, rel_tol=SAME):
            repeated.append((first, at))
    if repeated:
        first, at = max(repeated, key=lambda pair: abs(pair[0].level - pair[1].level))
        off = abs(first.level - at.level)  # measured: far less, for a good network
        how = f"off by up to {off:.1g}, where data is of size 1" if off < SMALL else "off"
        log.warning(
            "the network takes whole training indices, and %d of its %d calls feed it one that "
            "another call feeds for another noise level, as %g for %.4g and for %.4g: samples may "
            "be %s. Use fewer steps, a grid in indices (trailing, leading, linspace), or, "
            "where the network takes fractions, the spec's TimeInput(fractions=True)",
            *(len(repeated), len(calls), at.time, first.level, at.level, how),
        )


def _warn_of_growth(spec: DenoiserSpec, rows: Float64, points: Sequence[Point]) -> None:
    """Warns where an error of the network comes out far larger than it went in.

    So where a run begins next to alpha = 0, as on squared-cosine betas, and takes large steps: x0
    is (x - sigma eps) / alpha there.
    """
    gains = error_gains(spec, rows, points)
    worst = int(np.argmax(gains))
    if gains[worst] > GROWN:
        at = points[worst]
        log.warning(
            "call %d of the network is at noise level sigma / alpha = %.4g, from where an error of "
            "the noise that it predicts comes out %.3g times as large in the samples: they will be "
            "broken. Use grid=KarrasGrid(sigma_max=80) or 'leading', more steps, clip=True "
            "where the data has fixed ends, or a network that predicts 'v_prediction'",
            *(worst + 1, at.sigma / at.alpha if at.alpha else math.inf, gains[worst]),
        )


def warn_long_step(name: str, high: float, low: float) -> None:
    """Warns where a method uses a slope at noise level ``low`` for a step from the level ``high``.

    The slope is (y - x0) / low: what is still wrong in x0 comes out high / low times as large.
    Below the level where data counts the slope is about 0, and high / 2 of the noise stays.
    """
    if high > FAR * max(low, DATA_COUNTS):
        log.warning(
            "%s goes from noise level sigma / alpha = %.4g to %.3g at once, too far for it: its "
            "samples will be broken. Use more steps, grid=KarrasGrid(sigma_max=80), or another "
            "sampler, such as 'dpmpp_2m'",
            *(name, high, low),
        )


def error_gains(spec: DenoiserSpec, rows: Float64, points: Sequence[Point]) -> Float64:
    """How much of the final state, in parts of its spread, an error of each call becomes.

    The error is one of the noise: 1 for ``epsilon``, and what that is for ``score`` and ``mean``.
    Errors of the input come out as with data N(0, 1), where x0 is alpha / (alpha² + sigma²)
    of the state. Clipping is left out. The rows are walked once, from the end: what a change of the
    state or of the history before a row makes of the final state.

    Returns:
        float64 (N,) for N calls. Measured on data N(1, 1/4) with an error of 1 %, standard
        deviations of samples are 7 % off at a gain of 60, 40 % at 160, 130 % at 310.
    """
    end = points[-1]
    of_x, of_history = 1.0 / math.hypot(end.alpha, end.sigma), [0.0, 0.0, 0.0]
    gains = np.zeros(len(points) - 1)
    for number in range(len(gains) - 1, -1, -1):
        row, at = rows[number].tolist(), points[number]
        parts = [of_x * factor for factor in row[col.C_X : col.H_3 + 1]]
        if row[col.STORE] >= 0.0:
            into = int(row[col.STORE])
            of_stored, of_history[into] = of_history[into], 0.0
            if of_stored:
                factors = row[col.K_X : col.KH_3 + 1]
                parts = [p + of_stored * factor for p, factor in zip(parts, factors, strict=True)]
        of_x, of_m, of_x0, *of_read = parts
        of_history = [a + b for a, b in zip(of_history, of_read, strict=True)]
        p_x, p_m = row[col.P_X], row[col.P_M]
        of_x += p_x * of_x0
        of_m += p_m * of_x0
        if p_m:
            of_x += of_m * (at.alpha / (at.alpha**2 + at.sigma**2) - p_x) / p_m
        gains[number] = abs(of_m * _unit_error(spec, at, p_m))
    return gains


def _unit_error(spec: DenoiserSpec, at: Point, p_m: float) -> float:
    """The error of the network's output that an error of 1 of the noise is."""
    if spec.prediction == "score":
        return 1.0 / at.sigma if at.sigma else 0.0
    if spec.prediction == "mean":
        return at.sigma / (at.alpha * p_m) if at.alpha and p_m else 0.0
    return 1.0
