"""A grid given point by point, and published ones."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np

from revstep.engine.checks import check_bool
from revstep.engine.spec.grids.base import Float64, Grid
from revstep.engine.spec.parts import TimeInput
from revstep.engine.spec.schedule.base import Schedule, table


@dataclasses.dataclass(frozen=True)
class TimeGrid(Grid):
    """The points of a grid, from noise to data; the number of steps follows from it.

    ``TimeGrid(times=(999, 666, 333))`` or ``TimeGrid(sigmas=(80, 5, 0.5, 0))``. A list that ends
    in the clean end (index -1, sigma 0) arrives there; one that doesn't arrives at the spec's end
    or, with ``stop``, at its own last point, where the network is not called.

    Attributes:
        times: Training indices, falling; -1 is the clean end.
        sigmas: Noise levels, falling: sigma / alpha, or t for flow. Between training indices the
            state is at exactly that level; the network is fed the inverse of the schedule's own
            interpolation, or the nearest index if it takes whole ones only.
        stop: Whether the run ends at the last point rather than calling the network there.
    """

    kind = "given"
    times: tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None
    stop: bool = False

    def __post_init__(self) -> None:
        check_bool(self.stop, "stop")
        if (self.times is None) == (self.sigmas is None):
            raise ValueError("a given grid takes times= (training indices) or sigmas=, one of them")
        for name, end in (("times", -1.0), ("sigmas", 0.0)):
            if (values := getattr(self, name)) is None:
                continue
            points = table(values, f"a grid's {name}")
            object.__setattr__(self, name, points)
            if any(b >= a for a, b in pairwise(points)):
                raise ValueError(f"a grid's {name} must fall, from noise to data; got {points}")
            if points and points[-1] < end:
                raise ValueError(f"a grid's {name} end at {end:g}, the clean end; got {points[-1]}")
            if points and points[-1] == end:
                object.__setattr__(self, "stop", True)
            if len(points) - self.stop < 1:
                raise ValueError(f"a grid's {name} need one network call at least; got {points}")

    @property
    def count(self) -> int:
        """Network calls: the points, without the one where the run ends."""
        return len(self.times or self.sigmas or ()) - self.stop

    def natural_times(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """The given points."""
        del time
        return self._points(schedule)[:steps]

    def end(self, schedule: Schedule) -> float | None:
        """The last point, with ``stop``."""
        return float(self._points(schedule)[-1]) if self.stop else None

    def _points(self, schedule: Schedule) -> Float64:
        if self.sigmas is not None:
            return schedule.from_level(np.array(self.sigmas))
        indices = np.array(self.times)
        outside = (indices > schedule.steps - 1) | ((indices < 0.0) & (indices != -1.0))
        if np.any(outside):
            raise ValueError(
                f"the grid's time {indices[outside][0]:g} is no training index: they run from "
                f"{schedule.steps - 1} to 0, and -1 is the clean end"
            )
        return schedule.from_index(indices)


# Align Your Steps (Sabour, Fidler & Kreis 2024), the authors' published schedules of 10 steps;
# SD 1.5 and SDXL over their scaled-linear betas from 0.00085 to 0.012.
AYS_SD15 = TimeGrid(times=(999, 850, 736, 645, 545, 455, 343, 233, 124, 24))
AYS_SDXL = TimeGrid(times=(999, 845, 730, 587, 443, 310, 193, 116, 53, 13))
AYS_SVD = TimeGrid(
    sigmas=(700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.0)
)
