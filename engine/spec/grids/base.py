"""What the grids share: from a number of steps to the times of the network calls."""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from revstep.engine.spec.denoiser import DenoiserSpec

__all__ = ["Float64", "Spacing", "check_finite", "in_whole_indices", "index_times"]

Float64 = NDArray[np.float64]


class Spacing(ABC):
    """Where the network is called, for a number of steps. Grids are frozen and hashable."""

    kind: ClassVar[str]
    by_index: ClassVar[bool] = False
    """Whether the grid is written in training indices."""

    @abstractmethod
    def natural_times(self, spec: DenoiserSpec, steps: int) -> Float64:
        """Natural times of the ``steps`` network calls, from noise to data."""

    @property
    def count(self) -> int | None:
        """The number of steps, where the grid itself fixes it."""
        return None

    def end(self, spec: DenoiserSpec) -> float | None:
        """Natural time where the last step arrives; None is the spec's ``final``."""
        del spec
        return None

    def without_last(self) -> Spacing:
        """The grid of one step more without its last point, where that is another grid."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The grid as plain JSON values; ``spacing_from_value`` reads it back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        plain = {
            k: list(v) if isinstance(v, tuple) else v.to_dict() if isinstance(v, Spacing) else v
            for k, v in values.items()
        }
        return {"kind": self.kind, **plain}


def check_finite(value: object, what: str) -> None:
    """Refuses what is no finite number.

    Raises:
        TypeError: No number.
        ValueError: Not finite.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} must be a number; got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{what} must be finite; got {value!r}")


def index_times(spec: DenoiserSpec, indices: Float64, what: str) -> Float64:
    """Natural times of falling training indices, rounded to whole ones where training had them."""
    total = spec.schedule.steps
    if in_whole_indices(spec):
        indices = np.round(indices)
    if np.any(indices < 0) or np.any(indices > total - 1):
        raise ValueError(f"{what} leaves the training indices 0 .. {total - 1}")
    if np.any(np.diff(indices) >= 0):
        raise ValueError(f"{what} with {len(indices)} steps visits a time twice; use fewer")
    return spec.schedule.from_index(indices)


def in_whole_indices(spec: DenoiserSpec) -> bool:
    """Whether grids that are written in indices keep to whole ones."""
    whole_network = spec.time.kind == "index" and not spec.time.fractions
    return spec.schedule.kind == "vp" or whole_network
