"""The worker of `loop_calls`: it prints, as JSON, what runs of a network that does nothing call."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import revstep
from suites.cpu.tasks import Nothing, small_spec
from suites.regressions.counting import calls_of, peak_bytes

STEPS, LONG = 20, 120


def run_of(engine: Any, steps: int, **watch: Any) -> Callable[[], object]:
    """A run of so many steps."""
    return lambda: engine.sample(1, steps=steps, seed=1, **watch)


def a_step(engine: Any, count: Callable[[Callable[[], object]], int], **watch: Any) -> float:
    """What each further step of a run counts."""
    long, short = (count(run_of(engine, steps, **watch)) for steps in (LONG, STEPS))
    return (long - short) / (LONG - STEPS)


def main() -> None:
    """Count and print."""
    engine = revstep.Engine(Nothing(small_spec()))
    prepared = engine.prepare(1, steps=STEPS, seed=1)
    found = {
        "sample": calls_of(run_of(engine, STEPS)),
        "prepared": calls_of(lambda: prepared(seed=1)),
        "step": a_step(engine, calls_of),
        "watched step": a_step(engine, calls_of, progress=lambda done, total: None),
        "peak": peak_bytes(run_of(engine, STEPS)),
        "peak of a step": a_step(engine, peak_bytes),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
