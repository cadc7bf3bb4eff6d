"""The table of latencies that ``bench`` and ``demo`` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from revstep.bench.latency import Latency


RUNS_FOR_P90, RUNS_FOR_P99 = 10, 100

HEADINGS = (
    *("batch", "runs", "p50\nms", "p90\nms", "p99\nms", "step\nms", "network\nms/step"),
    *("outside\nµs/step", "samples\nper s"),
)


def latency_table(rows: Sequence[Latency]) -> Table:
    """One row per batch size: whole runs, one step, and its time in and outside the network.

    A percentile that so few runs can't resolve is a dash.
    """
    first = rows[0]
    table = Table(
        box=None,
        pad_edge=False,
        title=f"latency of {first.sampler}-{first.steps}, guidance {first.guidance:g}",
        title_justify="left",
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            str(row.batch),
            str(row.runs),
            f"{row.p50_ms:.1f}",
            f"{row.p90_ms:.1f}" if row.runs >= RUNS_FOR_P90 else "-",
            f"{row.p99_ms:.1f}" if row.runs >= RUNS_FOR_P99 else "-",
            *(f"{ms:.2f}" for ms in (row.step_ms, row.network_ms)),
            f"{row.outside_us:.0f}",
            f"{row.samples_per_s:.1f}",
        )
    return table


def machine_line(machine: dict[str, Any]) -> str:
    """The machine of a measurement in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores; Python {machine['python']}, {versions}"
