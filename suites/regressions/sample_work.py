"""The worker of `sample_call`: runs of a network that does nothing, on 32 numbers."""

from __future__ import annotations

from collections.abc import Callable

import revstep
from suites.cpu.tasks import Nothing, small_spec
from suites.regressions.worker import make

STEPS, LONG = 20, 120


def tasks() -> dict[str, Callable[[], object]]:
    """``sample``; ``long``, which has LONG - STEPS more steps; and a prepared run."""
    engine = revstep.Engine(Nothing(small_spec()))
    prepared = engine.prepare(1, steps=STEPS, seed=1)
    return {
        "sample": lambda: engine.sample(1, steps=STEPS, seed=1),
        "long": lambda: engine.sample(1, steps=LONG, seed=1),
        "prepared": lambda: prepared(seed=1),
    }


if __name__ == "__main__":
    make(tasks())
