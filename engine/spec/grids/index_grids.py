"""Grids that are written in training indices (Lin et al. 2023, table 2)."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from typing import Self

import numpy as np

from revstep.engine.checks import check_bool, check_number, check_whole
from revstep.engine.spec.grids.base import (
    Float64,
    Grid,
    in_whole_indices,
    index_times,
)
from revstep.engine.spec.parts import TimeInput
from revstep.engine.spec.schedule import Schedule


class IndexGrid(Grid):
    """A grid of training indices."""

    @abstractmethod
    def indices(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """The falling indices of the ``steps`` calls, as the formula has them: not yet whole."""

    def natural_times(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """Natural times of the indices, whole ones where training had them."""
        found = self.indices(schedule, time, steps)
        return index_times(schedule, time, found, f"grid {self.kind!r}")


@dataclasses.dataclass(frozen=True)
class TrailingGrid(IndexGrid):
    """Indices T - 1, T - 1 - T/N, ...: the last training index and N even strides down.

    Attributes:
        first: The first call's index, from where the strides, of the same length, go down; None is
            T - 1.
    """

    kind = "trailing"
    first: float | None = None

    def __post_init__(self) -> None:
        _check_first(self.first)

    def indices(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """round(T - k T/N) - 1 for k = 0 .. N - 1 (rounded first, as diffusers does)."""
        total = schedule.steps
        top = total if self.first is None else self.first + 1.0
        found = np.asarray(np.arange(top, 0, -total / steps)[:steps], dtype=np.float64)
        if len(found) < steps:
            raise ValueError(
                f"grid 'trailing' from index {top - 1.0:g} has {len(found)} strides of "
                f"{total}/{steps} indices; take fewer steps, or grid='linspace'"
            )
        return (np.round(found) if in_whole_indices(schedule, time) else found) - 1.0


@dataclasses.dataclass(frozen=True)
class LeadingGrid(IndexGrid):
    """Indices (N - 1) S, ..., S, 0 with S = T // N, all moved up by an offset.

    It misses the noisiest times, and a single step would start at index 0, where there is next to
    nothing left to remove: that is refused.

    Attributes:
        offset: Added to the indices; None is the spec's ``grid_offset`` (``with_offset``), or 0.
        drop_last: N + 1 points without the last, as diffusers' multistep solvers have it.
        first: The noisiest index that may be called: S = (first + 1) // N; None is T - 1.
    """

    kind = "leading"
    offset: int | None = None
    drop_last: bool = False
    first: float | None = None

    def __post_init__(self) -> None:
        _check_first(self.first)
        if self.offset is not None:
            check_whole(self.offset, "offset")
        check_bool(self.drop_last, "drop_last")

    def natural_times(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """Natural times of the indices; one step is refused."""
        if steps == 1 and not self.drop_last:
            raise ValueError(
                "grid 'leading' with one step calls the network at the start of the training "
                "indices only, where next to nothing is left to remove; use grid='trailing'"
            )
        what = f"grid 'leading' with offset {self.offset or 0}"
        return index_times(schedule, time, self.indices(schedule, time, steps), what)

    def indices(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """Indices k (T // N) + offset for k = N - 1 .. 0."""
        count = steps + 1 if self.drop_last else steps
        del time
        total = schedule.steps if self.first is None else self.first + 1.0
        found = np.arange(count)[::-1] * float(total // count) + (self.offset or 0)
        return np.asarray(found[:steps], dtype=np.float64)

    def with_offset(self, offset: int) -> Self:
        """With ``offset``, unless it has one."""
        return self if self.offset is not None else dataclasses.replace(self, offset=offset)

    def without_last(self) -> Self:
        """With ``drop_last``."""
        return dataclasses.replace(self, drop_last=True)


@dataclasses.dataclass(frozen=True)
class LinspaceGrid(IndexGrid):
    """Indices evenly from ``first`` down to ``last``, both taken; one step is ``first`` alone.

    Attributes:
        first: None is T - 1.
        last: None is 0.
        drop_last: N + 1 points without the last: ComfyUI's and Stability's ``sgm_uniform``.
    """

    kind = "linspace"
    first: float | None = None
    last: float | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            if (value := getattr(self, name)) is not None:
                check_number(value, name, finite=True)
        check_bool(self.drop_last, "drop_last")

    def indices(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """linspace(first, last, N), or the first N of N + 1."""
        first = schedule.steps - 1.0 if self.first is None else self.first
        last, count = self.last or 0.0, steps + 1 if self.drop_last else steps
        upwards = self.last is None or self.first is not None  # as diffusers; MONAI names the last
        if upwards and count > 1 and in_whole_indices(schedule, time):
            found = np.linspace(last, first, count)[::-1]  # halves are rounded otherwise
        else:
            found = np.linspace(first, last, count)
        return np.asarray(found[:steps])

    def without_last(self) -> Self:
        """With ``drop_last``."""
        return dataclasses.replace(self, drop_last=True)


def _check_first(value: float | None) -> None:
    if value is not None:
        check_number(value, "first", finite=True)


OVER_INDICES: dict[str, Grid] = {
    "trailing": TrailingGrid(),
    "leading": LeadingGrid(),
    "linspace": LinspaceGrid(),
}
