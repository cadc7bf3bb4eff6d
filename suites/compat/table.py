"""The table of docs/compat.md; the last row of each name counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.bench.compare import meets
from suites.compat.measure import ROWS, TARGET
from suites.cpu.table import last_rows, of_part
from suites.tables import Tables, line, rows_at, table

Row = Mapping[str, Any]
PAGE = Path("docs/compat.md")


def steps_table(rows: Sequence[Row]) -> str:
    """A step of every scheduler on both sides."""
    lines = [
        f"| scheduler | diffusers, µs | fused, µs | times as fast (95 %) | {TARGET:g}x |",
        "|---|---:|---:|---:|---|",
    ]
    for row in of_part(last_rows(rows), "step"):
        ratio = row["ratio"]
        met = {True: "yes", False: "**no**"}[bool(meets(ratio["ratio"], at_least=TARGET))]
        shown = f"{_short(ratio['ratio'])} ({_short(ratio['low'])} to {_short(ratio['high'])})"
        times = (f"{row[side]:,.1f}" for side in ("diffusers_us", "revstep_us"))
        lines.append(line(row["name"], *times, shown, met))
    return table(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


TABLES = Tables[Sequence[Row]](
    suite="compat", pages=(PAGE,), tables={"steps": steps_table},
    rows=lambda root: rows_at(root / ROWS),
)  # fmt: skip
