"""The worker of `loop_tensors`: a GPU's loop on torch's CPU device; it prints counts as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from revstep.engine.engine import Engine
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule
from suites.gpu.loop import Nothing
from suites.regressions.counting import calls_of
from suites.torch_host import torch_host_runtime

BATCH, STEPS, LONG = 2, 20, 40
WAYS: dict[str, dict[str, Any]] = {"step graph": {}, "eager": {"graphs": False}}


def operations_of(call: Callable[[], object]) -> int:
    """Operations of torch that a call makes, views and allocations among them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call()
    events: Sequence[object] = seen.events() or ()
    return len(events)


def engine_of(network: type[Nothing] = Nothing, **options: Any) -> Engine:
    """An engine on tensors of the CPU; ``options`` as for ``device_runtime``."""
    spec = DenoiserSpec(shape=(3, 8, 8), schedule=VPSchedule(), prediction="epsilon")
    denoiser = network(spec, torch.device("cpu"), torch.float32)
    return Engine(torch_host_runtime(denoiser, buckets=(BATCH,), **options))


def count(engine: Engine) -> dict[str, float]:
    """Operations of a run; operations and Python calls of each further step."""

    def run(steps: int) -> Callable[[], object]:
        call = partial(engine.sample, BATCH, steps=steps, seed=0, batch_size=BATCH)
        call()
        return call

    short, long = run(STEPS), run(LONG)
    further, operations = LONG - STEPS, operations_of(short)
    return {
        "sample": operations,
        "step": (operations_of(long) - operations) / further,
        "calls": (calls_of(long) - calls_of(short)) / further,
    }


def main() -> None:
    """Count and print."""
    print(json.dumps({way: count(engine_of(**options)) for way, options in WAYS.items()}))


if __name__ == "__main__":
    main()
