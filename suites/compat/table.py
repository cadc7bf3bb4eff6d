"""The table of docs/compat.md: `python -m suites.compat.table`.

It stands between two comments that name it, and is written anew. The last row of each name counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.bench.compare import meets
from revstep.bench.rows import read_rows
from suites.compat.measure import ROWS, TARGET
from suites.cpu.table import last_rows, of_part
from suites.tables import block_of, fill, line, table

Row = Mapping[str, Any]
PAGE = Path("docs/compat.md")
BLOCK = block_of("compat")


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


TABLES: dict[str, Callable[[Sequence[Row]], str]] = {"steps": steps_table}


def main() -> None:
    """Fills the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(fill(page, BLOCK, TABLES, read_rows(ROWS)), encoding="utf-8")


if __name__ == "__main__":
    main()
