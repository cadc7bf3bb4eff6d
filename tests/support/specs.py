"""Specs of tests that only need one."""

import numpy as np

from revstep import DenoiserSpec
from revstep.schedules import VPSchedule


def spec_of(**fields):
    """The noise predicted, over DDPM's schedule, but for ``fields``."""
    return DenoiserSpec(**{"schedule": VPSchedule(), "prediction": "epsilon"} | fields)


def random_inputs(spec, rows, seed=3):
    """Input name -> values of ``rows`` rows: N(0, 1), whole or fractional times, any class."""
    rng = np.random.default_rng(seed)
    times = rng.random(rows)
    if spec.time.kind == "index":
        times = np.round(times * (spec.schedule.steps - 1))
    inputs = {spec.name: rng.standard_normal((rows, *spec.shape)), spec.time.name: times}
    for c in spec.conditions:
        inputs[c.name] = rng.standard_normal((rows, *c.shape))
        if c.classes is not None:
            inputs[c.name] = rng.integers(0, c.classes, (rows, *c.shape))
    return {k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in inputs.items()}
