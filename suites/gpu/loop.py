"""Time outside the network per step: eager steps, step graphs, unrolled graphs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING, Any

from revstep.bench.clock import percentiles
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.engine import Engine
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule
from suites.gpu.context import Run

if TYPE_CHECKING:
    import torch


CASES = ((1, (16, 7)), (8, (3, 32, 32)), (64, (3, 32, 32)))  # (samples, shape)
LENGTHS = (50, 500)
TARGET_US = 5.0


@dataclasses.dataclass(frozen=True)
class Nothing:
    """A network that enqueues nothing, and takes no time on the device: only the rest is left."""

    spec: DenoiserSpec
    device: torch.device
    dtype: torch.dtype
    stream: None = None
    capturable: None = None

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that does nothing; the output stays as it is."""

        def call() -> None:
            return

        return call

    def describe(self) -> dict[str, Any]:
        """What runs."""
        return {"backend": "nothing", "device": str(self.device)}


def measure_loop(run: Run) -> None:
    """Each size: whole runs of 50 and of 500 steps, three ways, in turns."""
    for batch, shape in run.pick(CASES, CASES[:1]):
        name = f"{batch} x {'x'.join(map(str, shape))}"
        run.attempt(name, 8, _outside, name, batch, shape)


def _outside(run: Run, name: str, batch: int, shape: tuple[int, ...]) -> None:
    import torch

    from suites.torch_host import runtime_on

    short, long = run.pick(LENGTHS, (2, 4))
    spec = DenoiserSpec(shape=shape, schedule=VPSchedule(), prediction="epsilon")
    denoiser = Nothing(spec, run.device, torch.float16)
    ways: dict[str, dict[str, Any]] = {
        "unrolled graph": {"unroll": (short, long)},
        "step graph": {},
        "eager steps": {"graphs": False},
    }
    tasks = []
    for options in ways.values():
        engine = Engine(runtime_on(denoiser, buckets=(batch,), **options))
        for steps in (short, long):
            tasks.append(_task(engine, batch, steps))
            tasks[-1]()
    times = run.run_times(tasks, seconds=5.0, minimum=10, maximum=200)
    for k, way in enumerate(ways):
        few, many = times[2 * k : 2 * k + 2]
        target = TARGET_US if way == "unrolled graph" else None
        parameters = {
            "batch": batch, "shape": list(shape), "network": "enqueues nothing",
            "network_dtype": "float16", "sampler": "ddim",
        }  # fmt: skip
        if many and not run.dry and median(many) <= median(few):
            raise ValueError(
                f"{way}: {long} steps took no longer than {short}: no time per step follows"
            )
        figures = {f"run_{short}_us": percentiles(few), f"run_{long}_us": percentiles(many)}
        run.measured(
            f"{name}, {way}, each further step",
            (median(many) - median(few)) / (long - short) * 1e6,
            "µs",
            at_most=target,
            figures=figures,
            parameters={**parameters, "steps": [short, long], "of": "difference of the medians"},
        )
        run.measured(
            f"{name}, {way}, per step of a whole run of {short}",
            median(few) / short * 1e6,
            "µs",
            at_most=target,
            figures=figures,
            parameters={**parameters, "steps": short, "of": "placing, steps, result on the host"},
        )


def _task(engine: Engine, batch: int, steps: int) -> Callable[[], object]:
    return lambda: engine.sample(batch, steps=steps, seed=0, batch_size=batch)
