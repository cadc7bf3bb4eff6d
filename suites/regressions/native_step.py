"""Instructions of the native C++ step for each element."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from suites.regressions.callgrind import check_machine, costs
from suites.regressions.figure import Figure, Found, Group, Place
from suites.regressions.native_work import ELEMENTS, ISAS, ROWS
from suites.regressions.versions import compiler_of

WORKER = "suites.regressions.native_work"
CALLS = 100
FIGURES = tuple(
    Figure(f"{isa}, {row}", "instructions for each element", share=0.02)
    for isa in ISAS
    for row in ROWS
)


def measure(place: Place) -> Found:
    """Each row's step on each instruction set."""
    check_machine()
    found = costs(place, WORKER, {figure.name: CALLS for figure in FIGURES})
    return Found({name: round(c.instructions / ELEMENTS, 3) for name, c in found.items()})


def versions(place: Place) -> dict[str, str]:
    """What compiled the kernels."""
    spec = importlib.util.find_spec("revstep.kernels._native")
    file = None if spec is None else spec.origin
    return {"compiler": "" if file is None else compiler_of(Path(file).read_bytes())}


GROUP = Group(
    "native_step",
    "the fused step in C++, on 4096 elements: rows without noise, with noise, with history",
    FIGURES,
    versions,
    measure,
)
