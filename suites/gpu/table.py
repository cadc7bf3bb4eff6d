"""The suite's rows for people: lines for a terminal, a Markdown table for the README."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from suites.tables import NOTHING, Tables, rows_at

Row = dict[str, Any]
ROWS, PAGE = Path("bench/results/gpu_suite.jsonl"), Path("docs/gpu.md")


def text_table(rows: Sequence[Row]) -> str:
    """Name, value, target and whether it was met, a section after the other."""
    lines = []
    width = max((len(row["name"]) for row in rows), default=0)
    for section in dict.fromkeys(row["section"] for row in rows):
        lines.append(f"\n{section}")
        own = (row for row in rows if row["section"] == section)
        lines += [f"  {row['name']:<{width}}  {_outcome(row)}".rstrip() for row in own]
    return "\n".join(lines)


def _outcome(row: Row) -> str:
    if row["status"] in ("skipped", "failed"):
        return f"{row['status']}: {row['reason']}"
    if row["value"] is None:
        return "ran (dry run: no figure)"
    met = {True: "met", False: "NOT met", None: ""}[row["met"]]
    return f"{_value(row):<18}  {_target(row):<12}  {met}"


def _value(row: Row) -> str:
    return f"{row['value']:,.4g} {row['unit'] or ''}".rstrip()


def _target(row: Row) -> str:
    if row["target"] is None:
        return ""
    return f"{'≥' if row['goal'] == 'at least' else '≤'} {row['target']:g}"


def summary(rows: Sequence[Row]) -> str:
    """One line: how many rows of each kind, and targets met."""
    counts = Counter(row["status"] for row in rows)
    judged = [row["met"] for row in rows if row["met"] is not None]
    kinds = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"{len(rows)} rows: {kinds}; {sum(judged)} of {len(judged)} targets met"


def markdown_table(rows: Sequence[Row]) -> str:
    """A Markdown table of what was measured, a later row in place of an earlier one of its name.

    Dry runs, skipped and failed rows are left out; every machine and commit is named.

    Raises:
        ValueError: No measured row.
    """
    latest: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row["status"] == "measured" and not row["dry_run"]:
            latest[row["gpu"] or "", row["section"], row["name"]] = row
    if not latest:
        raise ValueError("no row holds a figure; run the suite on a machine with a GPU first")
    lines = [
        "| section | what | value | target | met | compared with |",
        "|---|---|---:|---|---|---|",
    ]
    for row in latest.values():
        met = {True: "yes", False: "**no**", None: ""}[row["met"]]
        cells = (row["section"], row["name"], _value(row), _target(row), met, row["peer"] or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    machines = dict.fromkeys(_machine(row) for row in latest.values())
    return "\n".join([*lines, "", "Measured on " + "; ".join(machines) + "."])


def _machine(row: Row) -> str:
    machine, versions = row["machine"], row["machine"]["versions"]
    return (
        f"{row['gpu']} (driver {row['driver']}, torch {row['torch']}, Triton "
        f"{versions.get('triton')}, Python {machine['python']}; commit {machine['commit']}, "
        f"{row['run']})"
    )


TABLES = Tables[Sequence[Row]](
    suite="gpu", pages=(PAGE,), rows=lambda root: rows_at(root / ROWS),
    tables={"suite": lambda rows: f"{markdown_table(rows)}\n" if rows else NOTHING},
)  # fmt: skip
