"""The suite's rows for people: lines for a terminal, a Markdown table for the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["markdown_table", "summary", "text_table"]

Row = dict[str, Any]


def text_table(rows: Sequence[Row]) -> str:
    """Name, value, target and whether it was met, a section after the other."""
    lines = []
    section = None
    width = max((len(row["name"]) for row in rows), default=0)
    for row in sorted(rows, key=_by_section(rows)):
        if row["section"] != section:
            section = row["section"]
            lines.append(f"\n{section}")
        lines.append(f"  {row['name']:<{width}}  {_told(row)}".rstrip())
    return "\n".join(lines)


def _by_section(rows: Sequence[Row]) -> Any:
    order = list(dict.fromkeys(row["section"] for row in rows))
    return lambda row: order.index(row["section"])


def _told(row: Row) -> str:
    if row["status"] in ("skipped", "failed"):
        return f"{row['status']}: {row['reason']}"
    if row["value"] is None:
        return "ran (dry run: no figure)"
    met = {True: "met", False: "NOT met", None: ""}[row["met"]]
    return f"{value(row):<18}  {goal(row):<12}  {met}"


def value(row: Row) -> str:
    """The value with its unit."""
    return f"{row['value']:,.4g} {row['unit'] or ''}".rstrip()


def goal(row: Row) -> str:
    """The target: `≥ 0.85`."""
    if row["target"] is None:
        return ""
    return f"{'≥' if row['goal'] == 'at least' else '≤'} {row['target']:g}"


def summary(rows: Sequence[Row]) -> str:
    """One line: how many rows of each kind, and targets met."""
    counts = [(s, sum(row["status"] == s for row in rows)) for s in _statuses(rows)]
    judged = [row["met"] for row in rows if row["met"] is not None]
    told = ", ".join(f"{count} {status}" for status, count in counts)
    return f"{len(rows)} rows: {told}; {sum(judged)} of {len(judged)} targets met"


def _statuses(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["status"] for row in rows))


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
        cells = (row["section"], row["name"], value(row), goal(row), met, row["peer"] or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    machines = dict.fromkeys(_machine(row) for row in latest.values())
    return "\n".join([*lines, "", "Measured on " + "; ".join(machines) + "."])


def _machine(row: Row) -> str:
    versions = f"torch {row['torch']}, Triton {row['triton']}, Python {row['python']}"
    return (
        f"{row['gpu']} (driver {row['driver']}, {versions}; commit {row['commit']}, {row['run']})"
    )
