"""diffusers' own float32 table of noise levels.

Its multistep solvers cut the times of noise grids to whole indices, so the rounding of the table
decides which index the network is fed; only that is taken from here. abar is diffusers' bit for
bit; its square root is PyTorch's, which may be off by one bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.schedule.vp import LAST_LEVEL, VPSchedule

Float32 = NDArray[np.float32]
ONE = np.float32(1.0)


def float32_levels(schedule: VPSchedule) -> Float32:
    """Sigma / alpha of every training index as diffusers 0.42 holds it, float32 (T,)."""
    betas = _betas(schedule)
    if schedule.zero_terminal_snr:
        betas = _rescaled(betas)
    abar = _cumprod(ONE - betas)
    with np.errstate(divide="ignore"):
        levels: Float32 = np.sqrt((ONE - abar) / abar)
    if schedule.zero_terminal_snr:
        levels[-1] = LAST_LEVEL
    return levels


def _betas(schedule: VPSchedule) -> Float32:
    start, end, steps = schedule.beta_start, schedule.beta_end, schedule.steps
    if schedule.betas == "linear":
        return _linspace(start, end, steps)
    if schedule.betas == "scaled_linear":
        root = _linspace(start**0.5, end**0.5, steps)
        return root * root
    return schedule.beta_table.astype(np.float32)


def _linspace(start: float, end: float, steps: int) -> Float32:
    """PyTorch's: from both ends to the middle, each with one rounding."""
    low, high = np.float32(start), np.float32(end)
    step = np.float64(np.float32((high - low) / np.float32(steps - 1)))
    k = np.arange(steps)
    up, down = np.float64(low) + step * k, np.float64(high) - step * (steps - 1 - k)
    return np.where(k < steps // 2, up, down).astype(np.float32)


def _cumprod(values: Float32) -> Float32:
    """PyTorch's, which accumulates in float64 on a CPU."""
    return np.cumprod(values, dtype=np.float64).astype(np.float32)


def _rescaled(betas: Float32) -> Float32:
    """Betas of zero terminal SNR (Lin et al. 2023, algorithm 1)."""
    root = np.sqrt(_cumprod(ONE - betas))
    first, last = root[0], root[-1]
    root = (root - last) * (first / (first - last))
    bar = root * root
    return ONE - np.concatenate([bar[:1], bar[1:] / bar[:-1]])
