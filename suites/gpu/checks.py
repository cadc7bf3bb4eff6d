"""Bits that must agree: kernel and reference, graphs and eager steps, a sample in any batch."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.engine import Engine
from revstep.kernels import StepBuffers, reference
from revstep.kernels.buffers import numpy_views
from revstep.kernels.noise import STREAM_INITIAL
from suites.gpu.context import Run
from suites.gpu.networks import conditions_for, make_network
from suites.gpu.peers import prepared, torch_engine
from suites.step.buffers import random_row, step_buffers

if TYPE_CHECKING:
    import torch


ELEMENTS = (1, 19, 784, 3072, 100_003)
HISTORIES = {"float16": (0, 1, 2, 3), "bfloat16": (0, 3), "float32": (0, 3)}  # each is a compile
SAMPLERS = ("ddim", "ddpm", "dpmpp_2m")
ROWS = 3  # of each random program
SEEDS = (0, 3, (1 << 64) - 1)


def measure_checks(run: Run) -> None:
    """A row counts what differs; any is a failure."""
    for dtype in HISTORIES:
        name = f"the step against the reference, random rows, {dtype}"
        run.attempt(name, 8, _step_against_reference, name, dtype)
    run.attempt("initial noise against the reference", 2, _noise_against_reference)
    for precision in ("fp32", "fp16"):
        name = f"step graph and unrolled graph against eager steps, policy, {precision}"
        run.attempt(name, 5, _graphs_against_eager, name, precision)
    run.attempt("the same sample in another batch, reproducible=True", 5, _other_batch)


def _step_against_reference(run: Run, name: str, dtype: str) -> None:
    import torch

    rng = np.random.default_rng(7)
    differing, tried = 0, 0
    sizes = run.pick(ELEMENTS, ELEMENTS[:2])
    for elements in sizes:
        for history in HISTORIES[dtype]:
            program = np.stack([random_row(rng, history) for _ in range(ROWS)])
            kind: torch.dtype = getattr(torch, dtype)
            with run.in_use() as device:
                buffers = step_buffers(run.device, 3, elements, kind, program, history)
                want = _copies(numpy_views(buffers))
                kernel = device.prepare(buffers)
                for _ in range(ROWS + 1):  # the identity row too
                    kernel.begin()
                    kernel.step()
                    reference.begin_step(want)
                    reference.fused_step(want)
                device.mark().wait()
            differing += _differing(numpy_views(buffers), want)
            tried += 3 * elements * (ROWS + 1)
    run.differing(
        name, differing, "differing values",
        parameters={
            "elements": list(sizes), "histories": list(HISTORIES[dtype]), "values_tried": tried,
        },
    )  # fmt: skip


def _copies(step: StepBuffers) -> StepBuffers:
    def own(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(own(v) for v in value)
        return value.copy() if isinstance(value, np.ndarray) else value

    return StepBuffers(**{f.name: own(getattr(step, f.name)) for f in dataclasses.fields(step)})


def _differing(got: StepBuffers, want: StepBuffers) -> int:
    names = ("x", "net_x", "net_t", "flags", "counter", "current")
    pairs = [(getattr(got, n), getattr(want, n)) for n in names]
    pairs += list(zip(got.history, want.history, strict=True))
    return sum(_differing_bits(a, b) for a, b in pairs)


def _differing_bits(got: NDArray[Any], want: NDArray[Any]) -> int:
    bits = f"u{got.dtype.itemsize}"
    return int((got.view(bits) != want.view(bits)).sum())


def _noise_against_reference(run: Run) -> None:
    import torch

    seeds, elements = np.array(SEEDS, np.uint64), run.pick(100_003, 19)
    want = np.empty((len(seeds), elements), np.float32)
    reference.normal_fill(want, seeds, 0, STREAM_INITIAL)
    out = torch.empty((len(seeds), elements), device=run.device)
    with run.in_use() as device:
        device.fill_noise(out, device.upload(seeds), seeds)
        device.mark().wait()
    differing = _differing_bits(out.cpu().numpy(), want)
    run.differing(
        "initial noise against the reference", differing, "differing values",
        parameters={"seeds": [str(s) for s in SEEDS], "elements": elements},
    )  # fmt: skip


def _graphs_against_eager(run: Run, name: str, precision: str) -> None:
    network, steps = make_network(run, "policy"), run.pick(20, 3)
    eager, graph, unrolled = (
        torch_engine(run, network, precision, buckets=(4,), **options)
        for options in ({"graphs": False}, {}, {"unroll": (steps,)})
    )
    differing, tried = 0, 0
    for sampler in SAMPLERS:
        for n, guidance in ((4, 1.0), (2, 1.5)):
            options: dict[str, Any] = {"sampler": sampler, "steps": steps, "seed": 5}
            options |= {"guidance": guidance, "conditions": conditions_for(network.spec, n)}
            want = eager.sample(n, **options).x
            for engine in (graph, unrolled):
                differing += _differing_bits(engine.sample(n, **options).x, want)
                tried += want.size
    run.differing(
        name, differing, "differing values",
        parameters={
            **network.parameters, "samplers": list(SAMPLERS), "steps": steps,
            "values_tried": tried, "graphs": graph.describe()["graphs"],
        },
    )  # fmt: skip


def _other_batch(run: Run) -> None:
    """Sample 2 of 4, alone and beside others; every network call is padded to one size."""
    import torch

    from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
    from suites.torch_host import runtime_on

    network, steps = make_network(run, "policy"), run.pick(20, 2)
    module = prepared(run, network, torch.float16)
    denoiser = TorchModuleDenoiser(module, network.spec, device=run.device, dtype=torch.float16)
    engine = Engine(runtime_on(denoiser, buckets=(16,)), reproducible=True)
    conditions = conditions_for(network.spec, 4)
    options: dict[str, Any] = {"steps": steps, "sampler": "ddpm"}
    together = engine.sample(4, seed=[11, 12, 13, 14], conditions=conditions, **options).x
    part = {name: value[2:3] for name, value in conditions.items()}
    alone = engine.sample(1, seed=[13], conditions=part, **options).x
    run.differing(
        "the same sample in another batch, reproducible=True",
        _differing_bits(alone[0], together[2]),
        "differing values",
        parameters={**network.parameters, "precision": "fp16", "samples": 4, "steps": steps},
    )
