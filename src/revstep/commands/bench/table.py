"""The table of latencies that ``bench`` and ``demo`` print, and what is to be said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from rich.console import Group
from rich.table import Table

from revstep.bench.measure.titles import cell_name
from revstep.commands.bench.limits import limit_lines

Row = dict[str, Any]

PERCENTS = ("p50", "p90", "p99", "p99.9")
WHY = {
    "converged": "the median is known to {noise:.1%}",
    "seconds": "the time was over; the median is known to {noise:.1%}",
    "runs": "the runs were made; the median is known to {noise:.1%}",
    "interrupted": "interrupted; the median is known to {noise:.1%}",
}


def latency_table(rows: Sequence[Row]) -> Group:
    """One line a cell, of whole runs, and one of a step: where its time goes.

    A percentile that so few runs don't support is a dash. Names are folded where there is little
    room; figures are not.
    """
    on_gpu = any(row["split"]["launch_s"] for row in rows)
    loops = any(row.get("parts") for row in rows)
    runs = _table(
        "latency of the loop, without encoders and decoder" if loops else "latency of whole runs",
        *("runs", "p50\nms", "p90\nms", "p99\nms", "p99.9\nms", "spread", "samples\nper s"),
    )
    steps = _table(
        "of a step", "step\nms", "network\nms", "sampler\nµs", "gaps\nµs",
        *(("launch\nµs",) if on_gpu else ()),
    )  # fmt: skip
    for row in rows:
        runs.add_row(cell_name(row), *_run_cells(row["summary"]))
        steps.add_row(cell_name(row), *_step_cells(row, on_gpu))
    return Group(runs, steps)


def _table(title: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    table.add_column("cell", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _run_cells(summary: dict[str, Any]) -> list[str]:
    return [
        str(summary["runs"]),
        *(milliseconds(summary["percentiles"].get(name)) for name in PERCENTS),
        f"{summary['spread']:.1%}",
        f"{summary['samples_per_s']:.1f}",
    ]


def _step_cells(row: Row, on_gpu: bool) -> list[str]:
    split = row["split"]
    return [
        f"{row['summary']['step_s'] * 1e3:.3f}",
        f"{split['network_s'] * 1e3:.3f}",
        *(f"{split[name] * 1e6:.1f}" for name in ("sampler_s", "gap_s")),
        *((f"{split['launch_s'] * 1e6:.1f}",) if on_gpu else ()),
    ]


def milliseconds(found: dict[str, float | None] | None) -> str:
    """A percentile; a dash where it is not supported, ``never`` where it is no reply."""
    if found is None:
        return "-"
    value = found["value"]
    return "never" if value is None else f"{value * 1e3:.2f}"


def notes(rows: Sequence[Row]) -> Iterator[str]:
    """A few lines on each cell: why it stopped, what is missing, what disturbed it."""
    for row in rows:
        summary = row["summary"]
        noise = summary["noise"]
        why = WHY[row["stopped"]].format(noise=noise) if noise is not None else row["stopped"]
        yield f"{cell_name(row)}: {why}{_openings(row)}"
        yield from (f"  {line}" for line in _details(row))


def _details(row: Row) -> Iterator[str]:
    summary = row["summary"]
    if more := summary["more_runs"]:
        top = summary["highest"]
        shown = "" if top is None else (
            f"; the highest that these support is p{top['percent']:g}: {top['value'] * 1e3:.2f} ms"
        )  # fmt: skip
        listed = ", ".join(f"{name} takes {count} more runs" for name, count in more.items())
        yield f"{listed}{shown}"
    far = {k.replace("_", " "): v for k, v in summary["outliers"].items() if v}
    if far:
        yield f"outliers, none left out: {', '.join(f'{v} {k}' for k, v in far.items())}"
    if steps := row["split"]["steps"]:
        listed = ", ".join(f"{name} {value['value'] * 1e3:.3f}" for name, value in steps.items())
        yield f"single steps, ms: {listed}"
    correct = row["correct"]
    yield f"right: {correct['error']:.1g} from the reference, the bound is {correct['bound']:g}"
    if held := memory_text(row["memory"]):
        yield f"peak memory: {held}{_before(row['memory'])}"
    if (cost := row["cost"]) is not None:
        yield f"cost: {cost['per_thousand_samples']:.3g} per 1,000 samples"
    yield from limit_lines(row)
    if row["disturbance"]["verdict"] != "quiet":
        yield f"{row['disturbance']['verdict']}: {'; '.join(row['disturbance']['reasons'])}"
    if cold := row.get("cold"):
        yield (
            f"cold start: {cold['total_s']:.2f} s to the first sample (process "
            f"{cold['process_s']:.2f}, import {cold['import_s']:.2f}, load {cold['load_s']:.2f}, "
            f"first run {cold['first_s']:.2f}; the second run {cold['second_s']:.2f}); "
            f"{_medians(len(cold['starts']))}"
        )


def _openings(row: Row) -> str:
    """How often its sides were opened; whether an interval can be over so few openings."""
    count = len(row.get("openings", ()))
    if count < 2 and "vs" not in row:
        return ""
    from revstep.bench.compare import ENOUGH

    few = "" if count >= ENOUGH or "vs" not in row else (
        f"; intervals have the scatter of runs alone: --openings {ENOUGH} has that of openings too"
    )  # fmt: skip
    return f"; {_apart(row, count) if count > 1 else 'opened once'}{few}"


def _apart(row: Row, count: int) -> str:
    """How far the medians of openings lie apart: as far as no number of runs of one shows."""
    from revstep.bench.row_pairs import OURS
    from revstep.bench.rows import starts_of

    medians = [median(start) for start in starts_of(row, OURS)]
    apart = (max(medians) - min(medians)) / median(medians)
    return f"{count} openings, whose medians lie {apart:.1%} apart"


def _medians(starts: int) -> str:
    return "1 start" if starts == 1 else f"{starts} starts, medians"


def memory_text(memory: dict[str, Any]) -> str:
    """Peaks of the host, and of the device: whose, where all processes are in it."""
    whose = "" if memory.get("device_of") == "process" else " (of all processes)"
    return ", ".join(
        f"{name} {memory[key] / 2**20:.0f} MiB{said}"
        for name, key, said in (("host", "host_bytes", ""), ("device", "device_bytes", whose))
        if memory[key] is not None
    )


def _before(memory: dict[str, int | None]) -> str:
    """What a process held before that, of earlier cells too."""
    before = memory.get("host_before_bytes")
    return "" if before is None else f" (the process held {before / 2**20:.0f} MiB before)"


def machine_line(machine: dict[str, Any]) -> str:
    """The machine of a measurement in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {versions}"
