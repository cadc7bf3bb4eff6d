"""The time shift of flow models: more steps at high noise for larger pictures.

t' = s t / (1 + (s - 1) t) is sigma / alpha times s (Esser et al. 2024, eq. 23). A static shift is
the s of training; a resolution-dependent one follows from the number of tokens: ``flow_shift``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Self

from revstep.engine.checks import check_number, check_one_of, wrong_value
from revstep.engine.renamed import renamed_fields
from revstep.engine.spec.grids.base import Float64, Grid
from revstep.engine.spec.grids.names import resolve_grid
from revstep.engine.spec.parts import TimeInput
from revstep.engine.spec.schedule import Schedule

SHIFT_KINDS = ("exponential", "linear")


@renamed_fields(spacing="grid")
@dataclasses.dataclass(frozen=True)
class ShiftedGrid(Grid):
    """Another grid with its times shifted, for flow schedules.

    Attributes:
        shift: s above; 1 is none. SD3's is 3; ``flow_shift`` gives that of a number of tokens.
        grid: The grid that is shifted.
        terminal: Stretches 1 - t' so that the last call is at this t (LTX-Video); None is off.
    """

    kind = "shifted"
    shift: float
    grid: str | Grid = "trailing"
    terminal: float | None = None

    def __post_init__(self) -> None:
        resolve_grid(self.grid)
        check_number(self.shift, "shift", 0.0, above=True, finite=True)
        if self.terminal is not None:
            check_number(self.terminal, "terminal", finite=True)
            if not 0.0 < self.terminal < 1.0:
                raise wrong_value(self.terminal, "terminal", "it lies in (0, 1)")

    @property
    def _inner(self) -> Grid:
        return resolve_grid(self.grid)

    @property
    def count(self) -> int | None:
        """That of the grid that is shifted."""
        return self._inner.count

    def with_offset(self, offset: int) -> Self:
        """With the offset in the grid that is shifted."""
        return dataclasses.replace(self, grid=self._inner.with_offset(offset))

    def end(self, schedule: Schedule) -> float | None:
        """That of the grid that is shifted, shifted."""
        end = self._inner.end(schedule)
        return None if end is None else self.shift * end / (1.0 + (self.shift - 1.0) * end)

    def natural_times(self, schedule: Schedule, time: TimeInput, steps: int) -> Float64:
        """The shifted times."""
        if schedule.kind != "flow":
            raise ValueError(
                f"a time shift is for flow schedules; this one is {schedule.kind!r}: give its "
                "noise levels instead, as KarrasGrid(...) or TimeGrid(sigmas=...)"
            )
        t = self._inner.natural_times(schedule, time, steps)
        t = self.shift * t / (1.0 + (self.shift - 1.0) * t)
        if self.terminal is not None:
            if t[-1] >= 1.0:
                raise ValueError("terminal= needs two steps at least: the last call is at t = 1")
            t = 1.0 - (1.0 - t) * (1.0 - self.terminal) / (1.0 - t[-1])
        return t


def flow_shift(
    tokens: int,
    *,
    base_shift: float = 0.5,
    max_shift: float = 1.15,
    base_tokens: int = 256,
    max_tokens: int = 4096,
    kind: str = "exponential",
) -> float:
    """The shift for a number of image tokens: exp(mu), mu linear in the tokens.

    mu is ``base_shift`` at ``base_tokens`` and ``max_shift`` at ``max_tokens``, as in Flux (the
    defaults) and in diffusers' ``use_dynamic_shifting``; ``linear`` is the shift mu itself.

    Args:
        tokens: Tokens of the picture: height x width of the latent over the patch's.
        base_shift: mu at ``base_tokens``.
        max_shift: mu at ``max_tokens``.
        base_tokens: Tokens of the smallest training picture.
        max_tokens: Tokens of the largest.
        kind: ``exponential`` or ``linear``.

    Raises:
        ValueError: An argument out of range.
    """
    check_one_of(kind, "kind of shift", SHIFT_KINDS)
    if tokens < 1 or not 0 < base_tokens < max_tokens:
        raise ValueError(
            f"flow_shift needs tokens >= 1 and 0 < base_tokens < max_tokens; got {tokens}, "
            f"{base_tokens}, {max_tokens}"
        )
    slope = (max_shift - base_shift) / (max_tokens - base_tokens)
    mu = base_shift + slope * (tokens - base_tokens)
    return math.exp(mu) if kind == "exponential" else mu
