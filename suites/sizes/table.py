"""The table of docs/containers.md; the last row of each extras counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suites.sizes.measure import EXTRAS
from suites.tables import NOTHING, Tables, line, rows_at, table

Row = Mapping[str, Any]
ROWS, PAGE = Path("bench/results/sizes.jsonl"), Path("docs/containers.md")
SHOWN, LEAST = 4, 0.04  # parts of a line, and the share of the whole that one has at least
NAMED = ("onnxruntime", "onnxruntime-gpu", "openvino", "torch", "numpy")


def last_rows(rows: Sequence[Row]) -> list[Row]:
    """The last row of each extras, in their order."""
    last = {row["extras"]: row for row in rows}
    return [last[extras] for extras in EXTRAS if extras in last]


def extras_table(rows: Sequence[Row]) -> str:
    """What each set of extras takes, and its largest parts."""
    lines = ["| extras | torch | MB | the largest parts |", "|---|---|---:|---|"]
    for row in last_rows(rows):
        torch = row["versions"].get("torch", "no")
        large = [f"{name} {size / 1e6:,.0f}" for name, size in row["parts"].items()
                 if size >= LEAST * row["bytes"]]  # fmt: skip
        parts = ", ".join(large[:SHOWN])
        lines.append(line(f"`{row['extras']}`", torch, f"{row['bytes'] / 1e6:,.0f}", parts))
    left = [extras for extras in EXTRAS if extras not in {row["extras"] for row in rows}]
    if rows:
        lines += [line(f"`{extras}`", "", "not measured yet", "") for extras in left]
    return table(lines)


def machine_line(rows: Sequence[Row]) -> str:
    """With what the rows were measured."""
    found: dict[str, dict[str, str]] = {}
    for row in last_rows(rows):
        machine = row["machine"]
        build = f"commit {machine['commit']}; {machine['time'][:10]}"
        where = f"Python {row['python']}, {machine['system']}; {build}"
        found.setdefault(where, {}).update(
            {f"{name} {row['versions'][name]}": "" for name in NAMED if name in row["versions"]}
        )
    return "".join(f"{', '.join(named)}; {where}.\n" for where, named in found.items()) or NOTHING


TABLES = Tables[Sequence[Row]](
    suite="sizes", pages=(PAGE,), tables={"extras": extras_table, "machine": machine_line},
    rows=lambda root: rows_at(root / ROWS),
)  # fmt: skip
