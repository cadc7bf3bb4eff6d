"""Modules that a start imports."""

from __future__ import annotations

from pathlib import Path

from suites.regressions.figure import Figure, Found, Group, Place
from suites.regressions.process import answer
from suites.regressions.versions import python_series, version_of

WORKER = str(Path(__file__).with_name("modules_work.py"))  # ``-m`` would import more
FLAGS = ("-S",)  # no .pth file of an environment imports anything first
FIGURES = (
    Figure("import revstep", "modules"),
    Figure("revstep.load", "modules"),
    Figure("first sample", "modules"),
)


def measure(place: Place) -> Found:
    """All that a fresh interpreter imports by each stage, numpy's and standard modules too."""
    names = {stage: tuple(found) for stage, found in answer(place, WORKER, flags=FLAGS).items()}
    return Found({stage: len(modules) for stage, modules in names.items()}, names)


GROUP = Group(
    "modules",
    "what is imported by `import revstep`, by its `load`, and by a first sample of a network that "
    "does nothing",
    FIGURES,
    lambda place: {"python": python_series(), "numpy": version_of("numpy")},
    measure,
)
