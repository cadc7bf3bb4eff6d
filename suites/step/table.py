"""The table of the fused step in the README and docs/benchmarks.md, and docs/kernels.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suites.step.kernel_table import PAGE as KERNELS_PAGE
from suites.step.kernel_table import TABLE as KERNELS
from suites.step.kernel_table import page
from suites.tables import NOTHING, Tables, WholePage, line, rows_at, seconds_text, table

Row = Mapping[str, Any]
ROWS = Path("bench/results/step_cpu.jsonl")
PAGES = (Path("README.md"), Path("docs/benchmarks.md"))


def sizes_table(rows: Sequence[Row]) -> str:
    """Best rounds of both sides, of the last row."""
    lines = ["| samples x elements | revstep | diffusers | ratio |", "|---|---:|---:|---:|"]
    for size in rows[-1]["sizes"] if rows else ():
        times = (seconds_text(size[f"{side}_us_best"] * 1e-6) for side in ("step", "diffusers"))
        name = f"{size['rows']} x {size['elements']:,}"
        lines.append(line(name, *times, f"{size['ratio_best']:.3g}"))
    return table(lines)


def noise_line(rows: Sequence[Row]) -> str:
    """Normals a second of the best instruction set."""
    if not rows:
        return NOTHING
    isa, rates = rows[-1]["isa"], rows[-1]["noise"]["giga_normals_per_s"]
    return (
        f"Normals with {isa}: {rates[isa]:.2f} G/s (`torch.randn`: {rates['torch.randn']:.2f}).\n"
    )


def machine_line(rows: Sequence[Row]) -> str:
    """Where and with what the last row was measured."""
    if not rows:
        return NOTHING
    machine = rows[-1].get("machine", rows[-1])  # the first rows have it flat
    packages = ", ".join(f"{name} {machine['versions'][name]}" for name in ("torch", "diffusers"))
    return (
        f"{machine['cpu']}, {rows[-1]['isa']}; one thread; {packages}; "
        f"commit {machine['commit']}; {machine['time'][:10]}.\n"
    )


def kernels_text(root: Path) -> str:
    """The page of the compiled kernels."""
    found = json.loads((root / KERNELS).read_text(encoding="utf-8"))
    return page(found["triton"], found["rows"])


TABLES = Tables[Sequence[Row]](
    suite="step", pages=PAGES, rows=lambda root: rows_at(root / ROWS),
    tables={"sizes": sizes_table, "noise": noise_line, "machine": machine_line},
)  # fmt: skip
KERNELS_TABLES = WholePage(KERNELS_PAGE, kernels_text)
