"""The steps of a run over a time grid: pairs of the points where each begins and arrives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from revstep.engine.checks import check_number, check_whole
from revstep.engine.errors import ArgumentError
from revstep.engine.message import Argument, Message
from revstep.engine.program.points import Point, point, points_at
from revstep.engine.renamed import renamed
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid

DEFAULT_STEPS = 20
ROUNDING = 1e-9  # a strength of 0.3 of 10 steps runs three

Steps = tuple[tuple[Point, Point], ...]
"""Pairs (now, then): the point of the network call, and the point that the step arrives at."""


@renamed(spacing="grid")
def steps_over(
    spec: DenoiserSpec,
    steps: int | None = None,
    grid: str | Grid | None = None,
) -> Steps:
    """``steps`` pairs (point of the network call, point that the step arrives at).

    A step arrives at the grid's own next time, the last at the clean end (or, with the spec's
    ``final="first"``, at training index 0; or where a given grid ends).

    Args:
        spec: The denoiser; gives the schedule and the defaults.
        steps: 1 to the schedule's training steps; None is 20, or what a given grid has.
        grid: A grid's name or a grid (``revstep.engine.spec.grids``); None is the spec's.

    Raises:
        TypeError: ``steps`` is no whole number, or ``grid`` no grid.
        ValueError: Steps out of range, an unknown grid, or one that leaves the schedule.
    """
    grid = spec.grid_of(grid)
    steps = step_count(spec, steps, grid)
    points = call_points(spec, grid, steps)
    last = point(spec, end_time(spec, grid))
    check_falling(points, last, grid)
    return tuple(zip(points, [*points[1:], last], strict=True))


def call_points(spec: DenoiserSpec, grid: Grid, steps: int) -> list[Point]:
    """The points of the ``steps`` network calls over a grid."""
    return points_at(spec, grid.natural_times(spec.schedule, spec.time, steps))


def default_steps(spec: DenoiserSpec, grid: Grid) -> int:
    """What a given grid has, or 20, at most the schedule's training steps."""
    return grid.count or min(DEFAULT_STEPS, spec.schedule.steps)


def step_count(spec: DenoiserSpec, steps: int | None, grid: Grid) -> int:
    """The number of steps, where None is the default, or what a given grid has.

    Raises:
        TypeError: No whole number.
        ValueError: Out of range.
    """
    if steps is None:
        return default_steps(spec, grid)
    count = check_whole(steps, "steps", numpy=True)
    if grid.count is None:
        return check_whole(count, "steps", 1, spec.schedule.steps, more=" on this schedule")
    if count != grid.count:
        text = f", but the given grid has {grid.count}; leave steps out"
        raise ArgumentError(Message(Argument("steps", count), text), "steps")
    return count


def check_falling(points: Sequence[Point], last: Point, grid: Grid) -> None:
    """Refuses points whose times do not fall, or that end below ``last``."""
    times = [at.t for at in points]
    if not (np.all(np.diff(times) < 0.0) and times[-1] >= last.t):
        raise ValueError(
            f"{grid!r} does not fall from noise to data down to its end at time {last.t:g}: "
            f"its calls are at {', '.join(f'{t:g}' for t in times[-4:])}; use fewer steps, or "
            "points above the end"
        )


def end_time(spec: DenoiserSpec, grid: Grid) -> float:
    """Natural time where the last step over ``grid`` arrives."""
    end = grid.end(spec.schedule)
    if end is not None:
        return end
    return spec.schedule.clean if spec.final == "clean" else float(spec.schedule.from_index(0))


def steps_run(steps: int, strength: float, compat: str | None = None, kind: str = "vp") -> int:
    """How many of ``steps`` steps run: ceil(strength * steps) (Meng et al. 2022).

    With compat, what the pipelines of diffusers 0.42.1 run: those of Stable Diffusion
    int(strength * steps), and none of them none; those of flow models (SD3, Flux)
    steps - int(steps - strength * steps), which is ceil but for its rounding.

    Args:
        steps: Steps of the whole grid.
        strength: In (0, 1].
        compat: ``diffusers``, or None.
        kind: The schedule's kind.

    Raises:
        ValueError: A strength out of range, or one that leaves no step.
    """
    check_number(strength, "strength", 0.0, 1.0, above=True)
    if compat is None:
        return max(1, math.ceil(strength * steps - ROUNDING))
    if kind == "flow":
        return steps - int(max(steps - steps * strength, 0.0))
    count = min(int(steps * strength), steps)
    if count == 0:
        raise ArgumentError(
            Message(
                Argument("strength", strength),
                f" of {steps} step{'s' * (steps > 1)} is less than one, which diffusers' pipelines "
                "refuse, and so does ",
                Argument("compat", "diffusers"),
                f": use a strength of at least {1.0 / steps:.3g} or more steps, or leave compat "
                "out to run one step",
            ),
            "strength",
        )
    return count
