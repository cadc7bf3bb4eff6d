"""Instructions and allocations of an `engine.sample` call, and of each further step of one."""

from __future__ import annotations

from suites.regressions.callgrind import Cost, costs
from suites.regressions.figure import Figure, Found, Group, Place
from suites.regressions.sample_work import LONG, STEPS
from suites.regressions.versions import c_library, python_build, version_of

WORKER = "suites.regressions.sample_work"
CALLS = {"sample": 100, "long": 50, "prepared": 100}
SAMPLE, PREPARED, STEP = f"sample, {STEPS} steps", f"prepared run, {STEPS} steps", "a further step"
FIGURES = (
    Figure(f"{SAMPLE}: instructions", "instructions", share=0.03),
    Figure(f"{PREPARED}: instructions", "instructions", share=0.03),
    Figure(f"{STEP}: instructions", "instructions", share=0.03),
    Figure(f"{SAMPLE}: allocations", "allocations", share=0.03),
    Figure(f"{PREPARED}: allocations", "allocations", share=0.03),
    Figure(f"{STEP}: allocations", "allocations", plus=0.05),
)


def measure(place: Place) -> Found:
    """Instructions with Python's own allocator; allocations with the C library's alone."""
    run = _of_a_run(costs(place, WORKER, CALLS))
    counted = _of_a_run(costs(place, WORKER, CALLS, settings={"PYTHONMALLOC": "malloc"}))
    return Found(
        {
            **{f"{name}: instructions": round(cost.instructions, 1) for name, cost in run.items()},
            **{f"{name}: allocations": round(c.allocations, 3) for name, c in counted.items()},
        }
    )


def _of_a_run(found: dict[str, Cost]) -> dict[str, Cost]:
    sample, long, further = found["sample"], found["long"], LONG - STEPS
    step = Cost(
        (long.instructions - sample.instructions) / further,
        (long.allocations - sample.allocations) / further,
    )
    return {SAMPLE: sample, PREPARED: found["prepared"], STEP: step}


def versions(place: Place) -> dict[str, str]:
    """Of what the instructions are: Python, numpy, the C library."""
    return {"python": python_build(), "numpy": version_of("numpy"), "libc": c_library()}


GROUP = Group(
    "sample_call",
    "`Engine.sample` and a prepared run, one sample of 32 numbers, DDIM, a network that does "
    "nothing",
    FIGURES,
    versions,
    measure,
)
