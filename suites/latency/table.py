"""The tables of what `revstep bench` says of the bundled denoiser; the last run of each counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.bench.load.looked_into import loads_of
from revstep.bench.measure.titles import cell_parts
from suites.latency.commands import ASKED
from suites.tables import (
    NOTHING,
    Tables,
    line,
    percentile_text,
    ratio_text,
    rows_at,
    seconds_text,
    table,
    where_measured,
)

Row = dict[str, Any]
ROWS = Path("bench/results/latency.jsonl")
PAGES = (Path("README.md"), Path("docs/benchmarks.md"))
PERCENTS = ("p50", "p90", "p99")
LOST = ("refused", "failed", "timeout", "unsent")
COLD = {
    "process_s": "process", "import_s": "`import revstep`", "load_s": "`load`",
    "first_s": "first run", "total_s": "to the first sample", "second_s": "second run",
}  # fmt: skip
PACKAGES = ("onnxruntime", "openvino", "torch", "diffusers")


def last_rows(rows: Sequence[Row]) -> list[Row]:
    """The rows of each question's last run, in the order of the questions."""
    last = {row["question"]: row["run"] for row in rows}
    return [
        row
        for command in ASKED
        for row in rows
        if row["question"] == command.question and row["run"] == last[command.question]
    ]


def runs_table(rows: Sequence[Row]) -> str:
    """Percentiles of whole runs, and where a step's time goes."""
    lines = [
        f"| run | runs | {' | '.join(PERCENTS)} | spread | a step: network | sampler | gaps "
        "| samples a second |",
        f"|---|{'---:|' * 9}",
    ]
    for row in _runs(rows):
        if row.get("vs"):
            continue
        summary = row["summary"]
        cells = [percentile_text(summary["percentiles"].get(p)) for p in PERCENTS]
        parts = [seconds_text(row["split"][name]) for name in ("network_s", "sampler_s", "gap_s")]
        rate = f"{summary['samples_per_s']:.3g}"
        spread = f"{summary['spread']:.1%}"
        lines.append(line(_name(row), summary["runs"], *cells, spread, *parts, rate))
    return table(lines)


def baselines_table(rows: Sequence[Row]) -> str:
    """Whole runs beside those of others, in turns."""
    lines = [
        "| run | beside | revstep | it | as fast (95 %) | revstep is | largest difference |",
        "|---|---|---:|---:|---:|---|---:|",
    ]
    for row in _runs(rows):
        for name, found in (row.get("vs") or {}).items():
            times = [seconds_text(each["summary"]["median_s"]) for each in (row, found)]
            ratio, far = ratio_text(found["ratio"]), f"{found['largest_difference']:.0e}"
            lines.append(line(_name(row), name, *times, ratio, found["verdict"], far))
    return table(lines)


def cold_table(rows: Sequence[Row]) -> str:
    """From a process's start to its first sample."""
    lines = [f"| starts | {' | '.join(COLD.values())} |", f"|---:|{'---:|' * len(COLD)}"]
    lines += [
        line(len(found["starts"]), *(seconds_text(found[name]) for name in COLD))
        for found in (row.get("cold") for row in _runs(rows))
        if found
    ]
    return table(lines)


def loads_table(rows: Sequence[Row]) -> str:
    """Every load of the search, by rate."""
    loads = sorted(loads_of(last_rows(rows)), key=lambda row: float(row["load"]["rate"]))
    deadline = "".join({seconds_text(row["goodput"]["deadline_s"]) for row in loads})
    limit = "".join({seconds_text(row["limit"]["seconds"]) for row in loads})
    lines = [
        f"| requests a second | arrivals | {' | '.join(PERCENTS)} | within {deadline} | of these a "
        f"second | {', '.join(LOST)} | p99 of {limit} |",
        f"|---:|{'---:|' * 7}---|",
    ]
    for row in loads:
        summary, good = row["summary"], row["goodput"]
        cells = [percentile_text(summary["percentiles"].get(p)) for p in PERCENTS]
        lost = ", ".join(str(summary["outcomes"].get(name, 0)) for name in LOST)
        rate, share = f"{row['load']['rate']:.4g}", f"{good['share']:.1%}"
        verdict, kept = row["verdict"], f"{good['per_s']:.3g}"
        lines.append(line(rate, row["arrivals"], *cells, share, kept, lost, verdict))
    return table(lines)


def found_line(rows: Sequence[Row]) -> str:
    """What the search found."""
    for row in last_rows(rows):
        if row.get("part") == "search":
            within = seconds_text(row["limit"]["seconds"])
            if row["found_per_s"] is None:
                return f"No rate was found at which a p99 of {within} holds.\n"
            return f"A p99 of {within} holds at {row['found_per_s']:.3g} requests a second.\n"
    return NOTHING


def commands_list(rows: Sequence[Row]) -> str:
    """The commands that gave the rows."""
    given = dict.fromkeys(row["command"] for row in last_rows(rows))
    return "\n".join(["```sh", *given, "```\n"]) if given else NOTHING


def machine_line(rows: Sequence[Row]) -> str:
    """Where and with what the runs were measured, and how quiet it was."""
    return where_measured(list(_runs(rows)), PACKAGES)


def _runs(rows: Sequence[Row]) -> Iterator[Row]:
    """The last rows of whole runs."""
    return (row for row in last_rows(rows) if row["bench"] == "latency")


def _name(row: Row) -> str:
    """``ddim-20, batch 1``: what runs it stands below the table."""
    return ", ".join(filter(None, cell_parts(row)[2:]))


BLOCKS: Mapping[str, Callable[[Sequence[Row]], str]] = {
    "runs": runs_table,
    "baselines": baselines_table,
    "cold": cold_table,
    "loads": loads_table,
    "found": found_line,
    "commands": commands_list,
    "machine": machine_line,
}
TABLES = Tables[Sequence[Row]](
    suite="latency", pages=PAGES, tables=BLOCKS, rows=lambda root: rows_at(root / ROWS)
)
