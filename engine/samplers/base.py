"""What samplers share: a grid of their own choosing and a trace."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod

from revstep.engine.affine import Vector
from revstep.engine.grid import Point, time_grid
from revstep.engine.spec import DenoiserSpec
from revstep.engine.trace import Run, Sampler

__all__ = ["BaseSampler", "FunctionSampler"]


class BaseSampler(ABC):
    """A sampler: called on a ``Run``, it returns the final state."""

    @abstractmethod
    def __call__(self, run: Run) -> Vector:
        """The final state, from ``run.x``."""

    def grid(
        self, spec: DenoiserSpec, steps: int, spacing: str | None, compat: str | None
    ) -> tuple[tuple[Point, Point], ...]:
        """The pairs of points to walk over; some samplers of other libraries have their own."""
        del compat
        return time_grid(spec, steps, spacing)


@dataclasses.dataclass(frozen=True)
class FunctionSampler(BaseSampler):
    """A plain function of a ``Run``."""

    function: Sampler

    def __call__(self, run: Run) -> Vector:
        """Calls the function."""
        return self.function(run)
