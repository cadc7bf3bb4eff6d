"""Variance preserving: alpha² + sigma² = 1, from a table of betas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from revstep.engine.checks import check_bool, check_number, check_one_of
from revstep.engine.spec.schedule.base import LEVEL_ROUNDING, Float64, Schedule, check_steps, table

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "trained")
MAX_COSINE_BETA = 0.999
LAST_LEVEL = 2.0**12  # diffusers' sigma / alpha for an infinite one: its abar is 2^-24
SIGMOID_ENDS = 6.0  # Xu et al. 2022 (GeoDiff), as diffusers' "sigmoid"


@dataclasses.dataclass(frozen=True)
class VPSchedule(Schedule):
    """Variance preserving: alpha² + sigma² = 1, from a table of betas.

    Own tables: ``from_betas``, ``from_alphas_cumprod``, ``from_sigmas``.

    Two schedules are called sigmoid. ``betas="sigmoid"`` is diffusers' (GeoDiff's): the *betas*
    rise along one, beta_start + (beta_end - beta_start) S(u), u from -6 to 6. That of
    denoising-diffusion-pytorch and Jabri et al. has an *abar* that falls along one, and other
    noise levels at every index: ``VPSchedule.sigmoid()``.

    Attributes:
        steps: Training steps T.
        betas: ``linear``, ``scaled_linear`` (linear in the square root), ``squaredcos_cap_v2``,
            ``sigmoid`` (diffusers'), or ``trained`` with ``trained_betas``.
        beta_start: First beta of the linear kinds; the sigmoid's lower limit.
        beta_end: Last beta of the linear kinds; the sigmoid's upper limit.
        zero_terminal_snr: Rescale so that alpha is exactly 0 at the last step (Lin et al. 2023).
        trained_betas: The betas themselves, ``steps`` numbers in (0, 1].
        snr_shift: What the betas' alpha² / sigma² is divided by, before it is rescaled to zero
            (CogVideoX's ``snr_shift_scale``; Hoogeboom et al. 2023).
    """

    kind = "vp"
    steps: int = 1000
    betas: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    zero_terminal_snr: bool = False
    trained_betas: tuple[float, ...] | None = None
    snr_shift: float = 1.0
    clean = -1.0

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_bool(self.zero_terminal_snr, "zero_terminal_snr")
        check_one_of(self.betas, "beta schedule", BETA_SCHEDULES)
        check_number(self.snr_shift, "snr_shift", 0.0, above=True, finite=True)
        if (self.betas == "trained") != (self.trained_betas is not None):
            raise ValueError("trained_betas go with betas='trained', and only with it")
        if self.trained_betas is not None:
            betas = table(self.trained_betas, "trained_betas", self.steps)
            object.__setattr__(self, "trained_betas", betas)
            if not all(0.0 < b <= 1.0 for b in betas):
                raise ValueError("every trained beta must lie in (0, 1]")
        elif not 0.0 < self.beta_start <= self.beta_end < 1.0:
            raise ValueError(
                "betas need 0 < beta_start <= beta_end < 1; "
                f"got beta_start={self.beta_start}, beta_end={self.beta_end}"
            )

    @classmethod
    def from_betas(cls, betas: Iterable[float], *, zero_terminal_snr: bool = False) -> VPSchedule:
        """The schedule of your own betas, from the least noisy step on, each in (0, 1]."""
        own = table(betas, "betas")
        return cls(
            steps=len(own), betas="trained", trained_betas=own, zero_terminal_snr=zero_terminal_snr
        )

    @classmethod
    def sigmoid(
        cls, steps: int = 1000, *, start: float = -3.0, end: float = 3.0, tau: float = 1.0
    ) -> VPSchedule:
        """The schedule whose abar is a sigmoid of t = (i + 1) / T, its betas at most 0.999.

        denoising-diffusion-pytorch's ``beta_schedule="sigmoid"`` (its default), of Jabri, Fleet &
        Chen 2022, "Scalable adaptive computation for iterative generation". The function itself,
        without the cut, is ``ContinuousVPSchedule(curve="sigmoid")``.
        """
        from revstep.engine.spec.schedule.continuous import sigmoid_alphas_cumprod

        check_steps(steps)
        if not (start < end and tau > 0.0):
            raise ValueError(f"sigmoid needs start < end and tau > 0; got {start}, {end}, {tau}")
        abar = sigmoid_alphas_cumprod(np.arange(steps + 1) / steps, start, end, tau)
        return cls.from_betas(np.minimum(1.0 - abar[1:] / abar[:-1], MAX_COSINE_BETA))

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Iterable[float]) -> VPSchedule:
        """The schedule of your own abar_t = alpha_t², falling, in [0, 1) (0 at the last step only).

        It is kept as betas, 1 - abar_t / abar_{t-1}, to the rounding of float64.
        """
        abar = np.array(table(alphas_cumprod, "alphas_cumprod"))
        before = np.concatenate([[1.0], abar[:-1]])
        if len(abar) == 0 or np.any(abar >= before) or np.any(abar < 0.0):
            raise ValueError(
                "alphas_cumprod must fall from below 1 (index 0, the least noise) and not below 0"
            )
        return cls.from_betas((before - abar) / before)

    @classmethod
    def from_sigmas(cls, sigmas: Iterable[float]) -> VPSchedule:
        """The schedule of your own noise levels sigma / alpha (k-diffusion's), rising from > 0."""
        levels = np.array(table(sigmas, "sigmas"))
        if len(levels) == 0 or levels[0] <= 0.0 or np.any(np.diff(levels) <= 0.0):
            raise ValueError(
                "sigmas must rise from above 0: index 0 is the least noise; reverse a falling list"
            )
        # 1 - abar_t / abar_{t-1} without the cancellation of 1 / (1 + sigma²)
        squares = np.concatenate([[0.0], levels**2])
        return cls.from_betas(np.diff(squares) / (1.0 + squares[1:]))

    @cached_property
    def alphas_cumprod(self) -> Float64:
        """abar_t for t = 0 .. T - 1, float64 (T,)."""
        abar: Float64 = np.cumprod(1.0 - self.beta_table, dtype=np.float64)
        if self.snr_shift != 1.0:
            abar = abar / (self.snr_shift + (1.0 - self.snr_shift) * abar)
        if self.zero_terminal_snr:
            root = np.sqrt(abar)
            root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
            abar = root**2
        return abar

    def to_dict(self) -> dict[str, Any]:
        """Without ``snr_shift`` where there is none, as earlier versions write it."""
        values = super().to_dict()
        if self.snr_shift == 1.0:
            del values["snr_shift"]
        return values

    @cached_property
    def beta_table(self) -> Float64:
        """beta_t for t = 0 .. T - 1, before any rescaling, float64 (T,)."""
        if self.trained_betas is not None:
            return np.asarray(self.trained_betas, dtype=np.float64)
        if self.betas == "linear":
            return np.linspace(self.beta_start, self.beta_end, self.steps)
        if self.betas == "scaled_linear":
            return np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps) ** 2.0
        if self.betas == "sigmoid":
            ramp = np.linspace(-SIGMOID_ENDS, SIGMOID_ENDS, self.steps)
            return self.beta_start + (self.beta_end - self.beta_start) / (1.0 + np.exp(-ramp))
        edges = np.arange(self.steps + 1) / self.steps
        bar = np.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
        return np.asarray(np.minimum(1.0 - bar[1:] / bar[:-1], MAX_COSINE_BETA), np.float64)

    @cached_property
    def _log_snr(self) -> Float64:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod))

    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(sqrt(abar), sqrt(1 - abar)); between indices, linear in log(alpha / sigma)."""
        t = np.asarray(t, dtype=np.float64)
        if not np.all((t == self.clean) | ((t >= 0.0) & (t <= self.steps - 1))):
            raise ValueError(f"VP time lies in [0, {self.steps - 1}] (or is -1, the clean end)")
        low = np.clip(np.floor(t), 0, self.steps - 1).astype(np.int64)
        value = np.where(t == self.clean, 1.0, self.alphas_cumprod[low])
        rest = 1.0 - value
        fraction = t - low
        between = (fraction > 0.0) & (t >= 0.0)
        if np.any(between):
            high = np.minimum(low + 1, self.steps - 1)
            with np.errstate(invalid="ignore", over="ignore"):
                log_snr = self._log_snr
                mixed = log_snr[low] + fraction * (log_snr[high] - log_snr[low])
                value = np.where(between, 1.0 / (1.0 + np.exp(-mixed)), value)
                rest = np.where(between, 1.0 / (1.0 + np.exp(mixed)), rest)
        return np.sqrt(value), np.sqrt(rest)

    def from_index(self, index: ArrayLike) -> Float64:
        """The index itself; the clean end below index 0."""
        i = np.asarray(index, dtype=np.float64)
        return np.where(i < 0.0, self.clean, i)

    def index(self, t: ArrayLike) -> Float64:
        """The time itself."""
        return np.asarray(t, dtype=np.float64)

    def from_level(self, level: ArrayLike) -> Float64:
        """The index, between indices by log(sigma / alpha); -1 at 0, T - 1 at infinity.

        A level beyond the table's ends by at most 0.1 % is the end: published lists are rounded.
        """
        level = np.asarray(level, dtype=np.float64)
        low, high = self.level_range
        end_is_infinite = not np.isfinite(self._log_snr[-1])
        inside = (level >= low * (1 - LEVEL_ROUNDING)) & (level <= high * (1 + LEVEL_ROUNDING))
        ok = inside | (level == 0.0) | (end_is_infinite & (level == math.inf))
        if not np.all(ok):
            bad = float(np.asarray(level)[~ok].flat[0])
            raise ValueError(
                f"noise level sigma / alpha = {bad:g} lies outside of this schedule's training, "
                f"{low:g} to {high:g}{' or infinite' if end_is_infinite else ''} (0 is the clean "
                "end)"
            )
        finite = self.steps - 1 if end_is_infinite else self.steps
        with np.errstate(divide="ignore"):
            found = np.interp(
                np.log(level), -0.5 * self._log_snr[:finite], np.arange(float(finite))
            )
        found = np.where(level == math.inf, float(self.steps - 1), found)
        return np.where(level == 0.0, self.clean, found)


@dataclasses.dataclass(frozen=True)
class NearlyZeroSNR(VPSchedule):
    """A schedule of zero terminal SNR as diffusers' solvers over sigma / alpha have it.

    Their last abar is 2^-24, sigma / alpha = 4096, so that no level is infinite; their DDIM, DDPM
    and the training have 0.
    """

    @cached_property
    def alphas_cumprod(self) -> Float64:
        """abar_t for t = 0 .. T - 1, float64 (T,)."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        abar = VPSchedule(**fields).alphas_cumprod.copy()
        abar[-1] = 1.0 / (1.0 + LAST_LEVEL**2)
        return abar
