"""Noise schedules: ``x_t = alpha_t x0 + sigma_t eps``, with ``(alpha, sigma)`` in float64.

Each schedule has its own *natural time* ``t``, running from noise to data:

===========  =============================  ==================================
schedule     natural time                   (alpha, sigma)
===========  =============================  ==================================
``vp``       training index, 0 to T - 1     (sqrt(abar_t), sqrt(1 - abar_t))
``ve``       sigma itself                   (1, t)
``flow``     t in [0, 1]                    (1 - t, t)
===========  =============================  ==================================

The clean end (alpha = 1, sigma = 0) is ``schedule.clean``: index -1, sigma 0, t = 0. Timestep
spacings are written in training indices; ``from_index`` maps them to natural time.

References: Ho et al. 2020 (VP, eq. 4); Nichol & Dhariwal 2021 (squared cosine, eq. 17); Lin et al.
2023 (zero terminal SNR, algorithm 1); Song et al. 2021 (VE); Lipman et al. 2023 (flow).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["FlowSchedule", "Schedule", "VESchedule", "VPSchedule", "schedule_from_dict"]

Float64 = NDArray[np.float64]

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "trained")
MAX_COSINE_BETA = 0.999


class Schedule(ABC):
    """A noise schedule of ``steps`` training steps."""

    kind: ClassVar[str]
    steps: int
    clean: ClassVar[float]
    """The natural time of the clean end, where alpha = 1 and sigma = 0."""

    @abstractmethod
    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(alpha_t, sigma_t), float64, of the shape of ``t`` (natural time)."""

    @abstractmethod
    def from_index(self, index: ArrayLike) -> Float64:
        """Natural time of a training index in [-1, T - 1]; -1 is the clean end."""

    @abstractmethod
    def index(self, t: ArrayLike) -> Float64:
        """Training index of a natural time: the inverse of ``from_index``."""

    def to_dict(self) -> dict[str, Any]:
        """The schedule as plain JSON values; ``schedule_from_dict`` reads it back."""
        values = {
            f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
        }
        return {"kind": self.kind, **values}


def _check_steps(steps: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or not 2 <= steps <= 1_000_000:
        raise ValueError(f"schedule steps are a whole number from 2 to 1,000,000; got {steps!r}")


@dataclasses.dataclass(frozen=True)
class VPSchedule(Schedule):
    """Variance preserving: alpha² + sigma² = 1, from a table of betas.

    Attributes:
        steps: Training steps T.
        betas: ``linear``, ``scaled_linear`` (linear in the square root), ``squaredcos_cap_v2``, or
            ``trained`` with the values in ``trained_betas``.
        beta_start: First beta of the linear kinds.
        beta_end: Last beta of the linear kinds.
        zero_terminal_snr: Rescale so that alpha is exactly 0 at the last step (Lin et al. 2023).
        trained_betas: The betas themselves, ``steps`` numbers in (0, 1].
    """

    kind: ClassVar[str] = "vp"
    steps: int = 1000
    betas: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    zero_terminal_snr: bool = False
    trained_betas: tuple[float, ...] | None = None
    clean: ClassVar[float] = -1.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if self.betas not in BETA_SCHEDULES:
            raise ValueError(
                f"unknown beta schedule {self.betas!r}; allowed: {', '.join(BETA_SCHEDULES)}"
            )
        if (self.betas == "trained") != (self.trained_betas is not None):
            raise ValueError("trained_betas go with betas='trained', and only with it")
        if self.trained_betas is not None:
            object.__setattr__(self, "trained_betas", tuple(float(b) for b in self.trained_betas))
            if len(self.trained_betas) != self.steps:
                raise ValueError(
                    f"trained_betas has {len(self.trained_betas)} values for {self.steps} steps"
                )
            if not all(0.0 < b <= 1.0 for b in self.trained_betas):
                raise ValueError("every trained beta must lie in (0, 1]")
        elif not 0.0 < self.beta_start <= self.beta_end < 1.0:
            raise ValueError(
                "betas need 0 < beta_start <= beta_end < 1; "
                f"got beta_start={self.beta_start}, beta_end={self.beta_end}"
            )

    @cached_property
    def alphas_cumprod(self) -> Float64:
        """abar_t for t = 0 .. T - 1, float64 (T,)."""
        abar: Float64 = np.cumprod(1.0 - self._betas(), dtype=np.float64)
        if self.zero_terminal_snr:
            root = np.sqrt(abar)
            root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
            abar = root**2
        return abar

    def _betas(self) -> Float64:
        if self.trained_betas is not None:
            return np.asarray(self.trained_betas, dtype=np.float64)
        if self.betas == "linear":
            return np.linspace(self.beta_start, self.beta_end, self.steps)
        if self.betas == "scaled_linear":
            return np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps) ** 2.0
        edges = np.arange(self.steps + 1) / self.steps
        bar = np.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
        return np.asarray(np.minimum(1.0 - bar[1:] / bar[:-1], MAX_COSINE_BETA), np.float64)

    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(sqrt(abar), sqrt(1 - abar)); between indices, linear in log(alpha / sigma)."""
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t == self.clean) | ((t >= 0.0) & (t <= self.steps - 1))):
            raise ValueError(f"VP time lies in [0, {self.steps - 1}] (or is -1, the clean end)")
        low = np.clip(np.floor(t), 0, self.steps - 1).astype(np.int64)
        abar = self.alphas_cumprod
        value = np.where(t == self.clean, 1.0, abar[low])
        fraction = t - low
        between = (fraction > 0.0) & (t >= 0.0)
        if np.any(between):
            high = np.minimum(low + 1, self.steps - 1)
            with np.errstate(divide="ignore", invalid="ignore"):
                log_snr = np.log(abar) - np.log1p(-abar)
                mixed = log_snr[low] + fraction * (log_snr[high] - log_snr[low])
                value = np.where(between, 1.0 / (1.0 + np.exp(-mixed)), value)
        return np.sqrt(value), np.sqrt(1.0 - value)

    def from_index(self, index: ArrayLike) -> Float64:
        """The index itself."""
        return np.asarray(index, dtype=np.float64)

    def index(self, t: ArrayLike) -> Float64:
        """The time itself."""
        return np.asarray(t, dtype=np.float64)


@dataclasses.dataclass(frozen=True)
class VESchedule(Schedule):
    """Variance exploding: alpha = 1; natural time is sigma, geometric in the training index."""

    kind: ClassVar[str] = "ve"
    steps: int = 1000
    sigma_min: float = 0.01
    sigma_max: float = 50.0
    clean: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        if not 0.0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                "a VE schedule needs 0 < sigma_min < sigma_max; "
                f"got sigma_min={self.sigma_min}, sigma_max={self.sigma_max}"
            )

    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(1, t) for any sigma t >= 0."""
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0.0) & np.isfinite(t)):
            raise ValueError("VE time is sigma: finite and not negative")
        return np.ones_like(t), t.copy()

    def from_index(self, index: ArrayLike) -> Float64:
        """sigma_min (sigma_max / sigma_min)^(i / (T - 1)); 0 at index -1."""
        i = np.asarray(index, dtype=np.float64)
        ratio = self.sigma_max / self.sigma_min
        return np.where(i <= -1.0, 0.0, self.sigma_min * ratio ** (i / (self.steps - 1)))

    def index(self, t: ArrayLike) -> Float64:
        """(T - 1) log(t / sigma_min) / log(sigma_max / sigma_min); -1 at sigma 0."""
        t = np.asarray(t, dtype=np.float64)
        span = math.log(self.sigma_max / self.sigma_min)
        with np.errstate(divide="ignore"):
            i = (self.steps - 1) * np.log(t / self.sigma_min) / span
        return np.where(t <= 0.0, -1.0, i)


@dataclasses.dataclass(frozen=True)
class FlowSchedule(Schedule):
    """Rectified flow: alpha = 1 - t, sigma = t; index i stands for t = (i + 1) / T."""

    kind: ClassVar[str] = "flow"
    steps: int = 1000
    clean: ClassVar[float] = 0.0

    def __post_init__(self) -> None:
        _check_steps(self.steps)

    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(1 - t, t) for t in [0, 1]."""
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t >= 0.0) & (t <= 1.0)):
            raise ValueError("flow time lies in [0, 1]")
        return 1.0 - t, t.copy()

    def from_index(self, index: ArrayLike) -> Float64:
        """(i + 1) / T."""
        return (np.asarray(index, dtype=np.float64) + 1.0) / self.steps

    def index(self, t: ArrayLike) -> Float64:
        """T t - 1."""
        return np.asarray(t, dtype=np.float64) * self.steps - 1.0


SCHEDULES: dict[str, type[VPSchedule] | type[VESchedule] | type[FlowSchedule]] = {
    cls.kind: cls for cls in (VPSchedule, VESchedule, FlowSchedule)
}


def schedule_from_dict(values: dict[str, Any]) -> Schedule:
    """The schedule that ``Schedule.to_dict`` wrote.

    Raises:
        ValueError: An unknown kind or field, or a value out of range.
    """
    values = dict(values)
    kind = values.pop("kind", None)
    if kind not in SCHEDULES:
        raise ValueError(f"unknown schedule {kind!r}; allowed: {', '.join(SCHEDULES)}")
    cls = SCHEDULES[kind]
    unknown = set(values) - {f.name for f in dataclasses.fields(cls)}
    if unknown:
        raise ValueError(f"unknown field of a {kind} schedule: {', '.join(sorted(unknown))}")
    return cls(**values)
