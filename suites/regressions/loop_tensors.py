"""Operations of torch in a GPU's loop, run on a CPU: a step makes none, so no tensor either."""

from __future__ import annotations

from importlib.util import find_spec

from suites.regressions.figure import CannotMeasure, Figure, Found, Group, Place
from suites.regressions.process import answer
from suites.regressions.versions import python_series, version_of

WORKER = "suites.regressions.tensors_work"
WAYS = ("step graph", "eager")
KEYS = {
    Figure("a further step: operations of torch", "operations"): "step",
    Figure("a further step: calls", "calls"): "calls",
    Figure("sample, 20 steps: operations of torch", "operations"): "sample",
}  # figure, of each way -> what the worker calls it


def measure(place: Place) -> Found:
    """In a process of its own."""
    if find_spec("torch") is None:
        raise CannotMeasure("torch is not installed (pip install 'revstep[bench]')")
    counted = answer(place, WORKER)
    return Found({_name(way, f): counted[way][key] for way in WAYS for f, key in KEYS.items()})


def _name(way: str, figure: Figure) -> str:
    return f"{way}, {figure.name}"


GROUP = Group(
    "loop_tensors",
    "a GPU's loop on torch's CPU device, a network that does nothing",
    tuple(Figure(_name(way, f), f.unit) for way in WAYS for f in KEYS),
    lambda place: {
        "python": python_series(),
        "numpy": version_of("numpy"),
        "torch": version_of("torch").partition("+")[0],
    },
    measure,
)
