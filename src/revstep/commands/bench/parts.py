"""A whole request, part by part: what is measured beside the loop, and what is said of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from revstep.bench.measure.titles import cell_name, part_names
from revstep.commands.bench.table import PERCENTS, WHY, memory_text, milliseconds
from revstep.commands.output import Bars, counter

if TYPE_CHECKING:
    from revstep.bench.measure.measure import Work
    from revstep.bench.measure.rounds import Budget

Row = dict[str, Any]


def add_parts(row: Row, work: Work, budget: Budget, price: float | None, bars: Bars) -> None:
    """``parts`` of a cell whose bundle has networks beside its denoiser.

    Raises:
        ParityError: One of them is wrong.
        KeyboardInterrupt: After Ctrl-C; what was measured is in the row.
    """
    from revstep.bench.measure.parts import measure_parts

    report = counter(bars.bar(f"{work.cell}, whole requests"))
    row["parts"] = measure_parts(work, budget, price=price, progress=report)
    if row["parts"]["stopped"] == "interrupted":
        raise KeyboardInterrupt


def parts_tables(rows: Sequence[Row]) -> Iterator[Group]:
    """Where a request's time goes, a table a cell: its networks, the rest, the whole."""
    for row in rows:
        if not (found := row.get("parts")):
            continue
        table = Table(box=None, pad_edge=False)
        table.add_column("part", no_wrap=True)
        for heading in ("rows", "p50\nms", "p90\nms", "p99\nms", "p99.9\nms", "share"):
            table.add_column(heading, justify="right", no_wrap=True)
        whole = found["times"]["request"]["median_s"]
        for name, part in part_names(found):
            summary = found["times"].get(part)
            if summary is None:
                rest = found["rest_s"]
                table.add_row(name, "", f"{rest * 1e3:.2f}", "", "", "", f"{rest / whole:.1%}")
                continue
            rows_of = "+".join(map(str, found["rows"].get(part, ())))
            shown = (milliseconds(summary["percentiles"].get(each)) for each in PERCENTS)
            share = "" if part == "picture_encoder" else f"{summary['median_s'] / whole:.1%}"
            table.add_row(name, rows_of, *shown, share)
        yield Group(Text(f"where a request's time goes: {cell_name(row)}", "italic"), table)


def part_lines(rows: Sequence[Row]) -> Iterator[str]:
    """A few lines on each cell's requests: what they were, how many, and whether they are right."""
    for row in rows:
        if not (found := row.get("parts")):
            continue
        summary = found["times"]["request"]
        noise = summary["noise"]
        why = found["stopped"] if noise is None else WHY[found["stopped"]].format(noise=noise)
        yield f"{cell_name(row)}, whole requests of {_asked(found)}: {summary['runs']} runs; {why}"
        if more := summary["more_runs"]:
            listed = ", ".join(f"{name} takes {count} more runs" for name, count in more.items())
            yield f"  {listed}"
        right = (
            f"{name} {each['error']:.1g} of {each['bound']:g}"
            for name, each in found["correct"].items()
        )
        yield f"  right, errors of their bounds: {', '.join(right)}"
        if held := memory_text(found["memory"]):
            yield f"  peak memory with all of them: {held}"
        if (cost := found["cost"]) is not None:
            yield f"  cost: {cost['per_thousand_samples']:.3g} per 1,000 samples"
        if found["disturbance"]["verdict"] != "quiet":
            reasons = "; ".join(found["disturbance"]["reasons"])
            yield f"  {found['disturbance']['verdict']}: {reasons}"


def _asked(found: Row) -> str:
    asked = found["asked"]
    parts = [
        f"{asked['prompts']} prompt{'s' * (asked['prompts'] != 1)}" if asked["prompts"] else "",
        "a negative prompt for all" if asked["negative_prompts"] else "",
        ", ".join(asked["inputs"]),
    ]
    return " and ".join(part for part in parts if part) or "given conditions"
