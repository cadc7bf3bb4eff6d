"""The three descriptions of one process that the proofs walk over, and grids even in a variable."""

from __future__ import annotations

import numpy as np

from revstep.engine.spec.denoiser import DenoiserSpec, TimeInput
from revstep.engine.spec.grids import TimeGrid
from revstep.engine.spec.schedule import FlowSchedule, VESchedule, VPSchedule

PREDICTION = {"vp": "epsilon", "ve": "score", "edm": "edm", "flow": "flow"}
VARIABLES = ("lambda", "sigma/alpha", "t")


def process(kind: str, prediction: str | None = None, elements: int = 2) -> DenoiserSpec:
    """A spec of ``vp``, ``ve``, ``edm`` (VE, preconditioned) or ``flow``, with exact times."""
    schedule = {
        "vp": VPSchedule(),
        "ve": VESchedule(sigma_min=0.01, sigma_max=150.0),
        "edm": VESchedule.edm(sigma_max=150.0),
        "flow": FlowSchedule(),
    }[kind]
    time = {"vp": "index", "ve": "sigma", "edm": "log_sigma", "flow": "unit"}[kind]
    return DenoiserSpec(
        shape=(elements,),
        schedule=schedule,
        prediction=prediction or PREDICTION[kind],
        time=TimeInput(kind=time, fractions=True),
        sigma_data=1.0,
    )


def even_grid(
    spec: DenoiserSpec, variable: str, levels: tuple[float, float], steps: int
) -> TimeGrid:
    """``steps`` steps between two levels sigma / alpha, even in one of ``VARIABLES``.

    t is the flow's time, sigma / (alpha + sigma). The run stops at the second level.
    """
    high, low = levels
    if variable == "lambda":
        points = np.exp(np.linspace(np.log(high), np.log(low), steps + 1))
    elif variable == "t":
        t = np.linspace(high / (1.0 + high), low / (1.0 + low), steps + 1)
        points = t / (1.0 - t)
    else:
        points = np.linspace(high, low, steps + 1)
    points[[0, -1]] = high, low
    if spec.schedule.kind == "flow":
        points = points / (1.0 + points)
    return TimeGrid(sigmas=tuple(points), stop=True)
