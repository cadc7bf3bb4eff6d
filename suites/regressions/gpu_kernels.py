"""Instructions and registers of the compiled GPU kernels; no GPU is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from revstep.kernels.gpu.aot import CAPABILITIES
from suites.regressions.figure import CannotMeasure, Figure, Found, Group, Place
from suites.regressions.process import answer
from suites.regressions.versions import version_of
from suites.step.kernel_table import TABLE, VARIANTS

WORKER = "suites.regressions.gpu_work"
COUNTED = ("instructions", "registers", "spilled_bytes")


def measure(place: Place) -> Found:
    """Every kernel of docs/kernels.md, compiled for every GPU."""
    if find_spec("triton") is None:
        raise CannotMeasure("Triton is not installed (pip install 'revstep[triton]', on Linux)")
    return Found(values_of(answer(place, WORKER)))


def committed(checkout: Path) -> list[dict[str, Any]]:
    """The committed table of the kernels, as a record."""
    path = checkout / TABLE
    if not path.exists():
        return []
    table = json.loads(path.read_text(encoding="utf-8"))
    return [{"versions": {"triton": table["triton"]}, "values": values_of(table["rows"])}]


def values_of(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Figure -> value, of rows of the table."""
    return {_name(row["kernel"], row["target"], c): row[c] for row in rows for c in COUNTED}


def _name(kernel: str, target: str, counted: str) -> str:
    return f"{kernel}, {target}: {counted.replace('_', ' ')}"


GROUP = Group(
    "gpu_kernels",
    "the machine code of the kernels in kernels.md",
    tuple(
        Figure(_name(variant.name, f"sm_{capability}", c), c.replace("_", " "))
        for variant in VARIANTS
        for capability in CAPABILITIES
        for c in COUNTED
    ),
    lambda place: {"triton": version_of("triton")},
    measure,
    record="python -m suites.step.kernel_table",
    committed=committed,
)
