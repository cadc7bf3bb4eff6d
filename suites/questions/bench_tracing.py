"""What does a sampler's first run cost before its first step? Every sampler is traced once.

The baseline is what diffusers does in every run: its scheduler of that name over as many steps, on
one number.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import pytest

import revstep
from revstep.engine.program.samplers import sampler_names
from revstep.schedules import FlowSchedule
from suites.compat.measure import CASES
from suites.cpu.tasks import small_spec
from suites.questions.compare import Compare

torch: Any = pytest.importorskip("torch")
diffusers: Any = pytest.importorskip("diffusers")
STEPS = 50
SCHEDULERS = {
    "ddim": "DDIM", "ddpm": "DDPM", "pndm": "PNDM", "euler": "Euler",
    "euler_ancestral": "Euler ancestral", "heun": "Heun", "lms": "LMS", "dpm2": "KDPM2",
    "dpmpp_2m": "DPM-Solver++ 2M", "dpmpp_3m": "DPM-Solver++ 3M",
    "dpmpp_2m_sde": "DPM-Solver++ 2M SDE", "dpmpp_2s": "DPM-Solver++ 2S", "unipc": "UniPC",
    "deis": "DEIS", "sa_solver": "SA-Solver", "flow_euler": "flow-matching Euler",
}  # fmt: skip


def spec_for(sampler: str, limit: float) -> Any:
    """A spec that the sampler runs on: of a flow, of two times, or else of a VP process."""
    spec = small_spec(limit)
    if sampler == "flow_map":
        second = revstep.SecondTime(name="r")
        return dataclasses.replace(
            spec, schedule=FlowSchedule(), prediction="average_velocity", second_time=second
        )
    if sampler.startswith("flow"):
        return dataclasses.replace(spec, schedule=FlowSchedule(), prediction="flow")
    return spec


def by_diffusers(title: str) -> Callable[[], object]:
    """A run of a scheduler of diffusers on one number."""
    name, options = CASES[title]
    scheduler = getattr(diffusers, name)(**options)
    x = torch.zeros(1, 1, 1, 1)
    draws = {"generator": torch.Generator()} if "sde" in title.lower() else {}

    def run() -> object:
        scheduler.set_timesteps(STEPS)
        state = x
        for t in scheduler.timesteps:
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(state, t)
            state = scheduler.step(x, t, state, return_dict=False, **draws)[0]
        return state

    return run


@pytest.mark.parametrize("sampler", sampler_names())
def test_tracing(compare: Compare, sampler: str) -> None:
    numbers = itertools.count()

    def trace() -> object:
        spec = spec_for(sampler, 1.0 + 1e-3 * next(numbers))  # one that was not traced before
        return revstep.build_program(spec, sampler, STEPS)

    title = SCHEDULERS.get(sampler)
    others = {} if title is None else {"diffusers, each run": by_diffusers(title)}
    compare(f"{sampler}, {STEPS} steps", trace, others)
