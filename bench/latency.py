"""How long an engine takes for whole runs, and how much of it lies outside the network."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.clock import nearest_rank, rounds
from revstep.engine.engine import Engine
from revstep.engine.program.trace import Sampler
from revstep.engine.runtime.watch import Timing

MIN_RUNS = 3

Progress = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Latency:
    """Whole runs of one batch size; percentiles by nearest rank, so each is a run that was made.

    ``step_ms``, ``network_ms`` and ``outside_us`` are those of the median run, and add up:
    step = network + outside.

    Attributes:
        batch: Samples per run.
        sampler: Name of the sampler.
        steps: Steps per run.
        guidance: Classifier-free guidance; other than 1 doubles the network's rows.
        runs: Runs measured, after one that is not counted.
        p50_ms: Median wall time of a run, from the call of ``sample`` to its result.
        p90_ms: 90th percentile; with fewer than 10 runs the slowest run.
        p99_ms: 99th percentile; with fewer than 100 runs the slowest run.
        step_ms: Wall time of the median run, divided by its network calls.
        network_ms: The network's time in the median run, per call.
        outside_us: (Wall time - network time) of the median run, per call: the step, the
            initial noise, checks, buffers, everything that is not the network.
        samples_per_s: Batch divided by the median wall time.
    """

    batch: int
    sampler: str
    steps: int
    guidance: float
    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    step_ms: float
    network_ms: float
    outside_us: float
    samples_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measure(
    engine: Engine,
    batch: int,
    *,
    sampler: str | Sampler = "ddim",
    steps: int = 20,
    guidance: float = 1.0,
    conditions: Mapping[str, NDArray[Any]] | None = None,
    runs: int = 100,
    seconds: float = 30.0,
    progress: Progress | None = None,
) -> Latency:
    """Measures runs of ``batch`` samples, after one warm-up run.

    Args:
        engine: What to measure.
        batch: Samples per run.
        sampler: As for ``Engine.sample``.
        steps: Steps per run.
        guidance: Classifier-free guidance.
        conditions: Of one run; ``example_conditions`` by default.
        runs: Maximum of runs.
        seconds: No run starts after this time, but at least three are made.
        progress: Called with (runs done, runs in all, at the pace so far).

    Raises:
        ValueError: Runs or seconds out of range, or as ``Engine.sample``.
    """
    if runs < MIN_RUNS or not seconds > 0.0:
        raise ValueError(f"runs={runs} must be at least {MIN_RUNS} and seconds={seconds} above 0")
    if conditions is None:
        conditions = example_conditions(engine, batch)

    def run(seed: int) -> tuple[float, Timing]:
        timing = Timing()
        begun = perf_counter()
        engine.sample(
            batch,
            sampler=sampler,
            steps=steps,
            seed=seed,
            guidance=guidance,
            conditions=conditions,
            timing=timing,
        )
        return perf_counter() - begun, timing

    run(0)
    walls: list[float] = []
    networks: list[float] = []
    calls = 0
    begun = perf_counter()
    for number in rounds(seconds, MIN_RUNS, runs):
        wall, timing = run(number + 1)
        calls = len(timing.network_ns)
        walls.append(wall)
        networks.append(sum(timing.network_ns) * 1e-9)
        if progress is not None:
            progress(len(walls), _runs_in_all(len(walls), perf_counter() - begun, runs, seconds))
    if progress is not None:
        progress(len(walls), len(walls))
    order = np.argsort(walls)
    median = int(order[nearest_rank(len(walls), 50)])
    p50, network_s = walls[median], networks[median]
    p90, p99 = (walls[order[nearest_rank(len(walls), percent)]] for percent in (90, 99))
    return Latency(
        batch=batch,
        sampler=sampler if isinstance(sampler, str) else repr(sampler),
        steps=steps,
        guidance=guidance,
        runs=len(walls),
        p50_ms=p50 * 1e3,
        p90_ms=p90 * 1e3,
        p99_ms=p99 * 1e3,
        step_ms=p50 / calls * 1e3,
        network_ms=network_s / calls * 1e3,
        outside_us=(p50 - network_s) / calls * 1e6,
        samples_per_s=batch / p50,
    )


def _runs_in_all(done: int, elapsed: float, runs: int, seconds: float) -> int:
    """How many runs it will be, at the pace so far."""
    rest = math.ceil(max(0.0, seconds - elapsed) * done / max(elapsed, 1e-9))
    return min(runs, max(MIN_RUNS, done + rest))


def example_conditions(engine: Engine, batch: int) -> dict[str, NDArray[Any]]:
    """Valid conditions for ``batch`` samples: whole numbers in turn (without the null), else 0."""
    found: dict[str, NDArray[Any]] = {}
    for c in engine.spec.conditions:
        array = np.zeros((batch, *c.shape), c.interface)
        if c.allowed is not None:
            low, high = c.allowed
            low = min(max(0, low), high)
            first = range(low, min(high, low + batch) + 1)  # limits may be far apart
            classes = [i for i in first if i != c.null] or [low]
            cycle: Sequence[int] = [classes[i % len(classes)] for i in range(batch)]
            array += np.reshape(cycle, (batch, *(1 for _ in c.shape)))
        found[c.name] = array
    return found
