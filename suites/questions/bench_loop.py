"""What does a step of a run cost outside the network? The network does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import revstep
from revstep.schedules import VPSchedule
from suites.cpu.networks import CLIPPED
from suites.cpu.tasks import Nothing, noise_of
from suites.questions.compare import Compare
from suites.questions.naive import apart, ddim_loop, diffusers_loop

torch: Any = pytest.importorskip("torch")
pytest.importorskip("diffusers")
STEPS = 50
ASKED: dict[str, Any] = {
    "steps": STEPS, "compat": "diffusers", "sampler": revstep.samplers.DDIM(epsilon="keep"),
}  # fmt: skip


@pytest.mark.parametrize("prepared", [False, True], ids=["sample", "prepared"])
@pytest.mark.parametrize(("batch", "shape"), [(1, (32,)), (16, (3, 32, 32))])
def test_loop(compare: Compare, batch: int, shape: tuple[int, ...], prepared: bool) -> None:
    spec = revstep.DenoiserSpec(shape=shape, schedule=VPSchedule(), prediction="epsilon", **CLIPPED)
    engine, noise = revstep.Engine(Nothing(spec)), noise_of(spec, batch)
    asked = {**ASKED, "noise": noise}
    run = engine.prepare(batch, **asked)

    def ours() -> Any:
        return run(seed=1).x if prepared else engine.sample(batch, **asked).x

    zeros = np.zeros_like(noise)
    nothing = torch.from_numpy(zeros)
    others: dict[str, Callable[[], Any]] = {
        "numpy": ddim_loop(spec, lambda x, t: zeros, noise, STEPS),
        "diffusers": diffusers_loop(spec, lambda x, t: nothing, noise, STEPS),
    }
    error = apart(ours(), *(other() for other in others.values()))
    assert error < 1e-4
    how = "a prepared run" if prepared else "sample"
    size = " x ".join(map(str, (batch, *shape)))
    compare(f"{how}, {size}, a step of {STEPS}", ours, others, per=STEPS, apart=error)
