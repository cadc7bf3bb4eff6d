"""Python calls, and bytes held at once, of the loop on a CPU."""

from __future__ import annotations

from suites.regressions.figure import Figure, Found, Group, Place
from suites.regressions.loop_work import STEPS
from suites.regressions.process import answer
from suites.regressions.versions import python_series, version_of

WORKER = "suites.regressions.loop_work"
CALLS, BYTES = "calls", "bytes"
KEYS = {
    Figure(f"sample, {STEPS} steps: calls", CALLS, share=0.02): "sample",
    Figure(f"prepared run, {STEPS} steps: calls", CALLS, share=0.02): "prepared",
    Figure("a further step: calls", CALLS): "step",
    Figure("a further step that is watched: calls", CALLS): "watched step",
    Figure(f"sample, {STEPS} steps: most bytes at once", BYTES, share=0.05): "peak",
    Figure("a further step: bytes", BYTES, plus=1.0): "peak of a step",
}  # figure -> what the worker calls it


def measure(place: Place) -> Found:
    """In a process of its own, where nothing else was imported."""
    counted = answer(place, WORKER)
    return Found({figure.name: round(counted[key], 2) for figure, key in KEYS.items()})


GROUP = Group(
    "loop_calls",
    "the same runs: what `sys.setprofile` and `tracemalloc` see",
    tuple(KEYS),
    lambda place: {"python": python_series(), "numpy": version_of("numpy")},
    measure,
)
