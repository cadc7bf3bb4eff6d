"""The points where a diffusers scheduler calls the network, from its own tables.

They are the scheduler's, to its float32 digits: so its grids, offsets, shifts, and the timesteps
and sigmas that a pipeline gives it all count, without being computed again.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Literal

from revstep.engine.errors import ProgramError
from revstep.engine.program.points import Point
from revstep.engine.program.steps import Steps

Process = Literal["vp", "flow", "edm"]


def level_point(process: Process, sigma: float, time: float) -> Point:
    """The point at a scheduler's sigma."""
    if process == "edm":
        return Point(t=time, time=time, alpha=1.0, sigma=sigma, level=sigma)
    if process == "flow":
        return Point(t=sigma, time=time, alpha=1.0 - sigma, sigma=sigma, index=time, level=sigma)
    alpha = 1.0 / math.hypot(1.0, sigma)
    return Point(t=time, time=time, alpha=alpha, sigma=sigma * alpha, index=time, level=sigma)


def index_point(scheduler: Any, t: int, *, arrives: bool = False) -> Point:
    """The point at a training index; that of a step's end may lie below 0, beyond the first."""
    if arrives and t < 0:
        final = scheduler.final_alpha_cumprod if hasattr(scheduler, "final_alpha_cumprod") else 1.0
        abar = float(final)
    else:
        abar = float(scheduler.alphas_cumprod[t])
    alpha, sigma = math.sqrt(abar), math.sqrt(1.0 - abar)
    level = sigma / alpha if alpha > 0.0 else math.inf
    return Point(t=t, time=t, alpha=alpha, sigma=sigma, index=t, level=level)


def by_level(scheduler: Any, process: Process, begin: int) -> Steps:
    """A call at each sigma from the ``begin``-th on."""
    sigmas = scheduler.sigmas.tolist()
    times = [*scheduler.timesteps.tolist()[: len(sigmas) - 1], 0.0]
    ends = zip(sigmas[begin : len(times)], times[begin:], strict=True)
    points = [level_point(process, sigma, time) for sigma, time in ends]
    return tuple(pairwise(points))


def by_index(scheduler: Any, begin: int, *, to_clean: bool) -> Steps:
    """A call at each timestep from the ``begin``-th on; the last step ends clean, or at index 0."""
    times = [int(t) for t in scheduler.timesteps.tolist()[begin:]]
    points = [index_point(scheduler, t) for t in times]
    end = Point(t=-1.0, time=0.0, alpha=1.0, sigma=0.0, index=-1.0, level=0.0)
    return tuple(pairwise([*points, end if to_clean else index_point(scheduler, 0)]))


def in_pairs(scheduler: Any, process: Process, begin: int) -> Steps:
    """Steps of two calls each, the last of one; sigmas are repeated for the second."""
    if begin % 2:
        raise ProgramError(
            f"the run begins at index {begin} of the timesteps, the second call of a step of "
            f"{type(scheduler).__name__}; begin at an even one, as pipelines do: "
            "set_begin_index(number of the step * scheduler.order)"
        )
    sigmas, times = scheduler.sigmas.tolist(), scheduler.timesteps.tolist()
    steps = (len(times) - begin + 1) // 2
    levels = [sigmas[begin], *sigmas[begin + 1 :: 2][:steps]]
    points = [
        level_point(process, sigma, time)
        for sigma, time in zip(levels, [*times[begin::2], 0.0], strict=True)
    ]
    return tuple(pairwise(points))


def by_timestep(scheduler: Any, timesteps: list[int]) -> Steps:
    """DDIM's and DDPM's steps: where each arrives follows from its timestep."""
    if hasattr(scheduler, "previous_timestep"):  # DDPM: at the next of the grid
        ends = [*timesteps[1:], -1]
    else:
        ends = [t - stride_of(scheduler) for t in timesteps]
    return tuple(
        (index_point(scheduler, t), index_point(scheduler, end, arrives=True))
        for t, end in zip(timesteps, ends, strict=True)
    )


def stride_of(scheduler: Any) -> int:
    """The length of every step of DDIM and PNDM, in training indices."""
    return int(scheduler.config.num_train_timesteps // scheduler.num_inference_steps)
