"""What the schedules share: times, noise levels and their inverses."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.checks import check_whole

Float64 = NDArray[np.float64]

LEVEL_ROUNDING = 1e-3  # published grids round their noise levels to 3 or 4 digits


class Schedule(ABC):
    """A noise schedule of ``steps`` training steps."""

    kind: ClassVar[str]
    steps: int
    clean: ClassVar[float]
    """The natural time of the clean end, where alpha = 1 and sigma = 0."""
    unit_time: ClassVar[bool] = False
    """Whether a network of ``unit`` time is fed ``unit(t)``; else its index's share of T - 1."""

    @abstractmethod
    def alpha_sigma(self, t: ArrayLike) -> tuple[Float64, Float64]:
        """(alpha_t, sigma_t), float64, of the shape of ``t`` (natural time)."""

    @abstractmethod
    def from_index(self, index: ArrayLike) -> Float64:
        """Natural time of a training index in [-1, T - 1]; -1 is the clean end."""

    @abstractmethod
    def index(self, t: ArrayLike) -> Float64:
        """Training index of a natural time: the inverse of ``from_index``."""

    def level(self, t: ArrayLike) -> Float64:
        """The noise level that grids are written in: sigma / alpha, or t itself for flow.

        k-diffusion's, diffusers' and ComfyUI's "sigma". It is infinite where alpha = 0; flow has
        its t instead, which isn't.
        """
        alpha, sigma = self.alpha_sigma(t)
        with np.errstate(divide="ignore"):
            return np.asarray(sigma / alpha, dtype=np.float64)

    def angle(self, t: ArrayLike) -> Float64:
        """atan(sigma / alpha), from 0 to pi/2; TrigFlow's t."""
        alpha, sigma = self.alpha_sigma(t)
        return np.asarray(np.arctan2(sigma, alpha))

    @abstractmethod
    def from_level(self, level: ArrayLike) -> Float64:
        """Natural time of a noise level: the exact inverse of ``level``.

        Raises:
            ValueError: A level that the training never saw.
        """

    def from_lambda(self, lam: ArrayLike) -> Float64:
        """Natural time where log(alpha / sigma) is ``lam``.

        Raises:
            ValueError: A noise level that the training never saw.
        """
        return self.from_level(np.exp(-np.asarray(lam, dtype=np.float64)))

    @property
    def level_range(self) -> tuple[float, float]:
        """(min, max) noise level of the training indices that is finite and not zero."""
        low, before, high = self.level(self.from_index([0, max(self.steps - 2, 0), self.steps - 1]))
        return float(low), float(high if np.isfinite(high) else before)

    def to_dict(self) -> dict[str, Any]:
        """The schedule as plain JSON values; ``schedule_from_dict`` reads it back."""
        values = {
            f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v
            for f in dataclasses.fields(self)  # type: ignore[arg-type]
        }
        return {"kind": self.kind, **values}


class UnitTimeSchedule(Schedule):
    """A schedule whose natural time runs from 0, the clean end, to 1: index i is (i + 1) / T."""

    clean = 0.0
    unit_time = True

    def from_index(self, index: ArrayLike) -> Float64:
        """(i + 1) / T."""
        return (np.asarray(index, dtype=np.float64) + 1.0) / self.steps

    def index(self, t: ArrayLike) -> Float64:
        """T t - 1."""
        return np.asarray(t, dtype=np.float64) * self.steps - 1.0

    def unit(self, t: ArrayLike) -> Float64:
        """(i + 1) / T: the time itself."""
        return np.asarray(t, dtype=np.float64)


def check_steps(steps: int) -> None:
    """Refuses a number of training steps out of range."""
    check_whole(steps, "steps", 2, 1_000_000)


def table(values: object, what: str, steps: int | None = None) -> tuple[float, ...]:
    """A user's own values as a tuple of finite floats, ``steps`` of them."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(f"{what} must be a sequence of numbers; got {values!r}")
    found = tuple(float(v) for v in values)
    if steps is not None and len(found) != steps:
        raise ValueError(f"{what} has {len(found)} values for {steps} steps")
    if not all(math.isfinite(v) for v in found):
        raise ValueError(f"{what} has a value that is not finite")
    return found
