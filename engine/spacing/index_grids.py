"""Grids that are written in training indices (Lin et al. 2023, table 2)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from revstep.engine.spacing.base import (
    Float64,
    Spacing,
    check_finite,
    in_whole_indices,
    index_times,
)
from revstep.engine.spec_checks import check_bool, check_whole

if TYPE_CHECKING:
    from revstep.engine.spec import DenoiserSpec

__all__ = ["LeadingGrid", "LinspaceGrid", "TrailingGrid"]


@dataclasses.dataclass(frozen=True)
class TrailingGrid(Spacing):
    """Indices T - 1, T - 1 - T/N, ...: the last training index and N even strides down."""

    kind: ClassVar[str] = "trailing"
    by_index: ClassVar[bool] = True

    def natural_times(self, spec: DenoiserSpec, steps: int) -> Float64:
        """round(T - k T/N) - 1 for k = 0 .. N - 1 (rounded first, as diffusers does)."""
        total = spec.schedule.steps
        found = np.asarray(np.arange(total, 0, -total / steps)[:steps], dtype=np.float64)
        whole = in_whole_indices(spec)
        return index_times(spec, (np.round(found) if whole else found) - 1.0, "spacing 'trailing'")


@dataclasses.dataclass(frozen=True)
class LeadingGrid(Spacing):
    """Indices (N - 1) S, ..., S, 0 with S = T // N, all moved up by an offset.

    It misses the noisiest times, and a single step would start at index 0, where there is next to
    nothing left to remove: that is refused.

    Attributes:
        offset: Added to the indices; None is the spec's ``spacing_offset``.
        drop_last: N + 1 points without the last, as diffusers' multistep solvers have it.
    """

    kind: ClassVar[str] = "leading"
    by_index: ClassVar[bool] = True
    offset: int | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        if self.offset is not None:
            check_whole(self.offset, "a grid's offset")
        check_bool(self.drop_last, "a grid's drop_last")

    def natural_times(self, spec: DenoiserSpec, steps: int) -> Float64:
        """Indices k (T // N) + offset for k = N - 1 .. 0."""
        count = steps + 1 if self.drop_last else steps
        if count == 1:
            raise ValueError(
                "spacing 'leading' with one step calls the network at the start of the training "
                "indices only, where next to nothing is left to remove; use spacing='trailing'"
            )
        offset = spec.spacing_offset if self.offset is None else self.offset
        stride = float(spec.schedule.steps // count)
        found = np.asarray(np.arange(count)[::-1] * stride + offset, dtype=np.float64)
        return index_times(spec, found[:steps], f"spacing 'leading' with offset {offset}")

    def without_last(self) -> LeadingGrid:
        """With ``drop_last``."""
        return dataclasses.replace(self, drop_last=True)


@dataclasses.dataclass(frozen=True)
class LinspaceGrid(Spacing):
    """Indices evenly from ``first`` down to ``last``, both taken; one step is ``first`` alone.

    Attributes:
        first: None is T - 1.
        last: None is 0.
        drop_last: N + 1 points without the last: ComfyUI's and Stability's ``sgm_uniform``.
    """

    kind: ClassVar[str] = "linspace"
    by_index: ClassVar[bool] = True
    first: float | None = None
    last: float | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            if (value := getattr(self, name)) is not None:
                check_finite(value, f"a grid's {name}")
        check_bool(self.drop_last, "a grid's drop_last")

    def natural_times(self, spec: DenoiserSpec, steps: int) -> Float64:
        """linspace(first, last, N), or the first N of N + 1."""
        first = spec.schedule.steps - 1.0 if self.first is None else self.first
        found = np.linspace(first, self.last or 0.0, steps + 1 if self.drop_last else steps)
        return index_times(spec, found[:steps], f"spacing {self.kind!r}")

    def without_last(self) -> LinspaceGrid:
        """With ``drop_last``."""
        return dataclasses.replace(self, drop_last=True)
