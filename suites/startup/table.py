"""The tables of docs/cpu.md about start-up; the last row of each request counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.bench.compare import meets
from suites.tables import NOTHING, Tables, line, ratio_text, rows_at, seconds_text, table

Row = Mapping[str, Any]
ROWS, PAGE = Path("bench/results/startup.jsonl"), Path("docs/cpu.md")
OLD, NEW, BARE = "earlier build", "revstep", "bare calls"
TARGET = 0.6
"""Most of the earlier build's time, from a process's start to its first sample."""


def last_rows(rows: Sequence[Row]) -> list[Row]:
    """The last row of each request and number of cores."""
    return list({(row["name"], row["cores"]): row for row in rows}.values())


def totals_table(rows: Sequence[Row]) -> str:
    """From the start of a process to its first sample."""
    lines = [
        f"| request | cores | {OLD} | {NEW} | {BARE} | {NEW} over the {OLD} | {BARE} over it "
        "| target | met |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in last_rows(rows):
        times = [seconds_text(row["seconds"][name]["total"]) for name in (OLD, NEW, BARE)]
        over = row["over_old"]
        met = "yes" if meets(over[NEW]["ratio"], at_most=TARGET) else "**no**"
        ratios = [ratio_text(over[name]) for name in (NEW, BARE)]
        lines.append(line(row["name"], row["cores"], *times, *ratios, f"≤ {TARGET}", met))
    return table(lines)


def phases_table(rows: Sequence[Row]) -> str:
    """Where the time goes."""
    heads = {
        "python": "Python itself", "import": "`import revstep`", "load": "`load`",
        "first": "the first run",
    }  # fmt: skip
    lines = [
        f"| request | cores | build | {' | '.join(heads.values())} |",
        f"|---|---:|---|{'---:|' * 4}",
    ]
    for row in last_rows(rows):
        for name in (OLD, NEW, BARE):
            times = [seconds_text(row["seconds"][name][phase]) for phase in heads]
            lines.append(line(row["name"], row["cores"], name, *times))
    return table(lines)


def machine_line(rows: Sequence[Row]) -> str:
    """Where and with what the rows were measured."""
    found = []
    for row in last_rows(rows):
        machine, versions = row["machine"], row["machine"]["versions"]
        found.append(
            f"{machine['cpu']}, a thread a core; Python {machine['python']}, "
            f"numpy {versions['numpy']}, onnxruntime {versions['onnxruntime']}; commit "
            f"{machine['commit']}, the earlier build {row['old_build']}; "
            f"{len(row['rounds'][NEW]['total'])} starts each; {machine['time'][:10]}."
        )
    return "".join(f"{where}\n" for where in dict.fromkeys(found)) or NOTHING


BLOCKS: dict[str, Callable[[Sequence[Row]], str]] = {
    "totals": totals_table,
    "phases": phases_table,
    "machine": machine_line,
}


TABLES = Tables[Sequence[Row]](
    suite="startup", pages=(PAGE,), tables=BLOCKS, rows=lambda root: rows_at(root / ROWS)
)
