"""What the grids share: from a number of steps to the times of the network calls."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.fields import keyed
from revstep.engine.spec.parts import TimeInput
from revstep.engine.spec.schedule.base import Schedule

Float64 = NDArray[np.float64]


class Grid(ABC):
    """Where the network is called, for a number of steps. Grids are frozen and hashable."""

    kind: ClassVar[str]

    @abstractmethod
    def natural_times(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """Natural times of the ``steps`` network calls, from noise to data.

        Args:
            schedule: The noise schedule.
            time: The network's time input: whether it takes times between training indices.
            steps: The number of network calls.

        Returns:
            float64 (steps,), falling.
        """

    @property
    def count(self) -> int | None:
        """The number of steps, where the grid itself fixes it."""
        return None

    def end(self, schedule: Schedule) -> float | None:
        """Natural time where the last step arrives; None is the spec's ``final``."""
        del schedule
        return None

    def with_offset(self, offset: int) -> Self:
        """The grid with ``offset`` where it has leading indices without an offset of their own."""
        del offset
        return self

    def without_last(self) -> Self:
        """The grid of one step more without its last point, where that is another grid."""
        return self

    def to_dict(self) -> dict[str, Any]:
        """The grid as plain JSON values; ``grid_from_value`` reads it back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        plain = {
            k: list(v) if isinstance(v, tuple) else v.to_dict() if isinstance(v, Grid) else v
            for k, v in values.items()
        }
        return {"kind": self.kind, **keyed(plain)}


def index_times(schedule: Schedule, time: TimeInput, indices: Float64, what: str) -> Float64:
    """Natural times of falling training indices, rounded to whole ones where training had them."""
    total = schedule.steps
    if in_whole_indices(schedule, time):
        indices = np.round(indices)
    if np.any(indices < 0) or np.any(indices > total - 1):
        raise ValueError(f"{what} leaves the training indices 0 .. {total - 1}")
    if np.any(np.diff(indices) >= 0):
        raise ValueError(f"{what} with {len(indices)} steps visits a time twice; use fewer")
    return schedule.from_index(indices)


def in_whole_indices(schedule: Schedule, time: TimeInput) -> bool:
    """Whether grids that are written in indices keep to whole ones."""
    return schedule.kind == "vp" or (time.kind == "index" and not time.fractions)
