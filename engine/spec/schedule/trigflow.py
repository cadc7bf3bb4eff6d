"""TrigFlow: alpha = cos t, sigma = sigma_data sin t."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike

from revstep.engine.checks import check_number
from revstep.engine.spec.schedule.base import Float64, UnitTimeSchedule, check_steps

END = math.pi / 2.0


@dataclasses.dataclass(frozen=True)
class TrigFlowSchedule(UnitTimeSchedule):
    """An angle t in [0, pi/2]: x = cos(t) x0 + sin(t) z with z ~ N(0, sigma_data²).

    The state keeps one spread, sigma_data, at every t. It goes with the ``edm_v`` prediction:
    x0 = cos(t) x - sin(t) sigma_data F(x / sigma_data, t). Index i stands for t = (i + 1) / T pi/2;
    a network is fed t itself by ``angle``, and 2 t / pi by ``unit``.

    Attributes:
        steps: T, in how many indices grids and ``steps`` count.
        sigma_data: Standard deviation of the data; as the spec's.

    References:
        Lu & Song 2024, "Simplifying, stabilizing and scaling continuous-time consistency models",
        arXiv:2410.11081, section 3.
    """

    kind = "trigflow"
    steps: int = 1000
    sigma_data: float = 0.5

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_number(self.sigma_data, "sigma_data", 0.0, above=True, finite=True)
        object.__setattr__(self, "sigma_data", float(self.sigma_data))

    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(cos t, sigma_data sin t) for t in [0, pi/2]; alpha is exactly 0 at its end."""
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0.0) & (t <= END)):
            raise ValueError("TrigFlow time is an angle in [0, pi/2]")
        return np.where(t == END, 0.0, np.cos(t)), self.sigma_data * np.sin(t)

    def from_index(self, index: ArrayLike) -> Float64:
        """(i + 1) / T pi/2."""
        return np.asarray(super().from_index(index) * END)

    def index(self, t: ArrayLike) -> Float64:
        """T t / (pi/2) - 1."""
        return super().index(self.unit(t))

    def unit(self, t: ArrayLike) -> Float64:
        """2 t / pi."""
        return np.asarray(t, dtype=np.float64) / END

    def angle(self, t: ArrayLike) -> Float64:
        """The time itself."""
        return np.asarray(t, dtype=np.float64)

    def from_level(self, level: ArrayLike) -> Float64:
        """The t where sigma / alpha is ``level``: atan(level / sigma_data), pi/2 at infinity."""
        level = np.asarray(level, dtype=np.float64)
        if not np.all(level >= 0.0):
            raise ValueError(f"a noise level sigma / alpha is not negative: got {np.min(level):g}")
        return np.asarray(np.arctan2(level, self.sigma_data))
