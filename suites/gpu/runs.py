"""Whole DDIM-50 runs: revstep's torch backend against diffusers' loop, eager and compiled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from revstep.bench.clock import percentiles
from revstep.engine.engine import Engine
from suites.gpu.context import Run
from suites.gpu.networks import Network, make_network
from suites.gpu.peers import SampleBatch, our_run, peer_name, peer_run, torch_engine

STEPS = 50
CASES = (  # (network, batch, network compiled, seconds it may need), most important first
    ("policy", 1, False, 10), ("cifar", 1, False, 10), ("fashion", 1, False, 10),
    ("policy", 1, True, 30), ("policy", 64, False, 10), ("cifar", 64, False, 20),
    ("policy", 8, False, 10), ("cifar", 8, False, 10), ("fashion", 64, False, 10),
    ("fashion", 8, False, 10), ("cifar", 1, True, 50), ("fashion", 1, True, 30),
    ("cifar", 64, True, 50),
)  # fmt: skip
DRY_CASES = (
    ("policy", 1, False, 0), ("cifar", 2, False, 0), ("fashion", 1, False, 0),
    ("policy", 1, True, 0),
)  # fmt: skip
TARGETS = {("policy", 1): 3.0}
PRECISIONS = ("fp32", "fp16")
EAGER_PEER = "peer"
CHECKED_STEPS = 4  # with random weights a rounding error grows with every step
# The peers keep the state in the network's precision, revstep in float32.
TOLERANCES = {"fp32": 2e-2, "fp16": 1e-1}


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way of making the same samples."""

    name: str
    precision: str
    sample: SampleBatch
    peer: str | None = None
    graphs: str | None = None


def steps_of(run: Run) -> int:
    """Steps per run."""
    return run.pick(STEPS, 2)


def graphs_of(engine: Engine) -> str:
    """Whether its steps run as graphs, or why not."""
    return str(engine.describe()["graphs"])


def measure_runs(run: Run) -> None:
    """Every network and batch; an eager network, and a compiled one where time is left."""
    for name, batch, compiled, seconds in run.pick(CASES, DRY_CASES):
        title = f"{name}, batch {batch}{', compiled' if compiled else ''}"
        run.attempt(title, seconds, _compiled if compiled else _eager, name, batch)


def _eager(run: Run, name: str, batch: int) -> None:
    """The unrolled graph and eager steps against the eager loop, in fp32 and fp16."""
    network, steps = make_network(run, name), steps_of(run)
    contenders = []
    for precision in PRECISIONS if not run.dry or name == "policy" else PRECISIONS[:1]:
        engine = torch_engine(run, network, precision, buckets=(batch,), unroll=(steps,))
        ours = our_run(engine, batch, steps)
        theirs = peer_run(run, network, precision, batch, steps)
        check_same_samples(run, network, batch, precision, ours, theirs)
        contenders += [
            Contender("revstep, unrolled graph", precision, ours, graphs=graphs_of(engine)),
            Contender(EAGER_PEER, precision, theirs, peer_name()),
        ]
        if precision == "fp32":
            plain = torch_engine(run, network, precision, buckets=(batch,), graphs=False)
            contenders.append(
                Contender("revstep, eager steps", precision, our_run(plain, batch, steps))
            )
    report(run, network, batch, contenders)


def _compiled(run: Run, name: str, batch: int) -> None:
    """The network in ``torch.compile`` on both sides, fp16."""
    network, steps = make_network(run, name), steps_of(run)
    engine = torch_engine(run, network, "fp16", buckets=(batch,), compile=True, unroll=(steps,))
    ours = our_run(engine, batch, steps)
    contenders = [
        Contender("revstep, compiled, unrolled graph", "fp16", ours, graphs=graphs_of(engine))
    ]
    for mode in ("default", "reduce-overhead") if batch == 1 else ("default",):
        sample = peer_run(run, network, "fp16", batch, steps, compiled=mode)
        check_same_samples(run, network, batch, f"fp16, compiled ({mode})", ours, sample)
        contenders.append(Contender(f"peer, compiled ({mode})", "fp16", sample, peer_name(mode)))
    report(run, network, batch, contenders)


def report(run: Run, network: Network, batch: int, contenders: list[Contender]) -> None:
    """Times the contenders in turns: a row for each, and one for each peer of what leads it.

    A peer comes after what it is compared with: the first of revstep's in its precision.
    """
    tasks: list[Callable[[], object]] = [contender.sample for contender in contenders]
    for task in tasks:
        for _ in range(run.pick(2, 1)):
            task()
    times = run.run_times(tasks, seconds=3.0, minimum=3, maximum=60)
    leaders: dict[str, tuple[str, float]] = {}
    for contender, found in zip(contenders, times, strict=True):
        title = f"{network.name}, batch {batch}, {contender.precision}"
        middle = median(found)
        parameters: dict[str, Any] = {
            **network.parameters, "batch": batch, "precision": contender.precision,
            "sampler": "ddim", "steps": steps_of(run), "tf32": contender.precision == "fp32",
            "graphs": contender.graphs,
        }  # fmt: skip
        run.measured(
            f"{title}: {contender.name}",
            middle * 1e3,
            "ms per run",
            peer=contender.peer,
            figures={**percentiles(found, 1e3), "samples_per_s": batch / middle},
            parameters=parameters,
        )
        if contender.peer is None:
            leaders.setdefault(contender.precision, (contender.name, middle))
            continue
        ours, seconds = leaders[contender.precision]
        target = TARGETS.get((network.name, batch)) if contender.name == EAGER_PEER else None
        run.measured(
            f"{title}: {ours}, against {contender.name}",
            middle / seconds,
            "times as fast",
            at_least=target,
            peer=contender.peer,
            parameters=parameters,
        )


def check_same_samples(
    run: Run,
    network: Network,
    batch: int,
    title: str,
    ours: SampleBatch,
    theirs: SampleBatch,
    peer: str | None = None,
) -> None:
    """A row: how far apart both sides' samples from the same noise are.

    Raises:
        ValueError: Further than rounding explains.
    """
    noise = np.random.default_rng(1).standard_normal((batch, *network.spec.shape), np.float32)
    steps = run.pick(CHECKED_STEPS, 2)
    got, want = ours(noise, steps=steps), theirs(noise, steps=steps)
    error = float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)))
    allowed = TOLERANCES["fp16" if "fp16" in title else "fp32"]
    name = f"{network.name}, batch {batch}, {title}: samples' difference from the peer's"
    run.suite.add(
        run.section, name, "measured", value=error, unit="relative RMS", at_most=allowed,
        peer=peer or peer_name(), exact=True, parameters={**network.parameters, "steps": steps},
    )  # fmt: skip
    if not error <= allowed:
        raise ValueError(f"{name} is {error:.2g}; allowed {allowed:g}")
