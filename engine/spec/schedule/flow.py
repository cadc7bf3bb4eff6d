"""Rectified flow: alpha = 1 - t, sigma = t."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from revstep.engine.spec.schedule.base import Float64, UnitTimeSchedule, check_steps


@dataclasses.dataclass(frozen=True)
class FlowSchedule(UnitTimeSchedule):
    """Rectified flow: alpha = 1 - t, sigma = t; index i stands for t = (i + 1) / T.

    A time shift (SD3, Flux) is no part of it: it changes at which of these times the sampler calls
    the network, not what a time means to the network. It is a grid: ``ShiftedGrid``.
    """

    kind = "flow"
    steps: int = 1000

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(1 - t, t) for t in [0, 1]."""
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0.0) & (t <= 1.0)):
            raise ValueError("flow time lies in [0, 1]")
        return 1.0 - t, t.copy()

    def level(self, t: ArrayLike) -> Float64:
        """The time itself, as diffusers and ComfyUI have it; sigma / alpha is infinite at t = 1."""
        return np.asarray(t, dtype=np.float64)

    def from_level(self, level: ArrayLike) -> Float64:
        """The level itself, in [0, 1]."""
        level = np.asarray(level, dtype=np.float64)
        if not np.all((level >= 0.0) & (level <= 1.0)):
            raise ValueError("a flow's noise level is its time t: it lies in [0, 1]")
        return level

    def from_lambda(self, lam: ArrayLike) -> Float64:
        """1 / (1 + e^lam)."""
        with np.errstate(over="ignore"):
            return np.asarray(1.0 / (1.0 + np.exp(np.asarray(lam, dtype=np.float64))))
