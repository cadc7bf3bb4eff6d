"""The tables of docs/service.md, a sentence of the README, and the plot.

The last row of each part and name counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from revstep.bench.stats.percentiles import PERCENTS
from suites.cpu.table import last_rows, of_part
from suites.service.plot import PLOT, ROWS, draw
from suites.service.sides import ALONE, IN_FLIGHT, WHOLE
from suites.service.targets import outcomes
from suites.tables import (
    NOTHING,
    Tables,
    line,
    percentile_text,
    ratio_text,
    rows_at,
    seconds_text,
    table,
)

Row = Mapping[str, Any]
PAGES = (Path("docs/service.md"), Path("README.md"))
LOADED = "80%"
SIDES = (IN_FLIGHT, WHOLE, ALONE)


def targets_table(rows: Sequence[Row]) -> str:
    """What was to be reached, what was, and what the simulation says can be."""
    lines = ["| what | target | measured | possible | met |", "|---|---:|---:|---:|---|"]
    for found in outcomes(rows):
        target = found.target
        cells = ("-" if v is None else target.shown(v) for v in (found.value, found.possible))
        met = {True: "yes", False: "**no**", None: "too few samples"}[found.met]
        lines.append(line(target.what, target.asked, *cells, met))
    return table(lines)


def saturation_table(rows: Sequence[Row]) -> str:
    """Requests a second with a backlog, and the ratios beside what is possible."""
    lines = [
        f"| network | {' | '.join(SIDES)} | over {WHOLE} | possible | over {ALONE} | possible |",
        f"|---|{'---:|' * (len(SIDES) + 4)}",
    ]
    for row in of_part(rows, "saturation"):
        rates = (f"{row['per_s'][name]:,.4g}" for name in SIDES)
        ratios = [
            cell
            for other in (WHOLE, ALONE)
            for cell in (ratio_text(row["ratios"][other]), f"{row['limit_ratios'][other]:.2f}")
        ]
        lines.append(line(row["name"], *rates, *ratios))
    return table(lines)


def sweep_table(rows: Sequence[Row]) -> str:
    """Latencies at every load, as far as the arrivals support them; and what was not answered."""
    heads = [f"{name}, {p}" for name in SIDES for p in ("p50", "p90", "p99")]
    lines = [
        f"| load | {' | '.join(heads)} | refused, unsent, failed |",
        f"|---|{'---:|' * (len(heads) + 1)}",
    ]
    for row in of_part(rows, "load"):
        cells = [
            percentile_text(row["sides"][name]["seconds"].get(f"p{percent}"))
            for name in SIDES
            for percent in PERCENTS
        ]
        lost = [
            ", ".join(str(row["sides"][name][what]) for what in ("refused", "unsent", "failed"))
            for name in SIDES
        ]
        said = "-" if {*lost} == {"0, 0, 0"} else "; ".join(lost)
        lines.append(line(row["name"], *cells, said))
    return table(lines)


def steps_table(rows: Sequence[Row]) -> str:
    """A step at several numbers of rows, and what a batch gains on one row."""
    sizes = ("1", "2", "4", "8", "16")
    heads = " | ".join(f"{size} rows" for size in sizes)
    lines = [
        f"| network | what | runtime | {heads} | gain of 16 |",
        f"|---|---|---|{'---:|' * (len(sizes) + 1)}",
    ]
    for row in of_part(rows, "steps"):
        times = row["seconds"]
        cells = [seconds_text(times[size]) for size in sizes]
        gain = f"{16 * times['1'] / times['16']:.2f}"
        lines.append(line(row["name"], row["what"], row["engine"]["backend"], *cells, gain))
    return table(lines)


def scheduler_table(rows: Sequence[Row]) -> str:
    """The service's own time for a step."""
    lines = ["| 64 slots | a step |", "|---|---:|"]
    titles = {
        "lane": "the lane alone: the fused step, and its call",
        "staying": "the service, nobody comes or goes",
        "mixed": "the service, requests of 10 to 50 steps: two come and go at every step",
    }
    for row in of_part(rows, "scheduler"):
        lines += [line(title, seconds_text(row["seconds"][k])) for k, title in titles.items()]
    return table(lines)


def machine_line(rows: Sequence[Row]) -> str:
    """Where and with what the rows were measured."""
    found = []
    for row in rows:
        versions = row["machine"]["versions"]
        names = ("onnxruntime", "openvino", "torch")
        parts = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
        server, load = row["cores"]
        found.append(
            f"{row['processor']}; the servers' threads on core {server}, the load on core {load}; "
            f"seed {row['seed']}; {parts}; commit {row['machine']['commit']}; {row['run'][:10]}."
        )
    return "".join(f"{where}\n" for where in dict.fromkeys(found)) or NOTHING


def worth_line(rows: Sequence[Row]) -> str:
    """What in-flight batching is worth beside whole generations, in a sentence."""
    more = [row["ratios"][WHOLE]["ratio"] for row in of_part(rows, "saturation")]
    late = dict(_p99_over_whole(rows))
    if not more or not late:
        return NOTHING
    return (
        f"With requests of 10 to 50 steps and 16 slots one core does {_range(more)} times as many "
        f"a second as with batches of whole generations, and p99 at {LOADED} of their load is "
        f"{_range(late.values())} of theirs ({', '.join(late)}).\n"
    )


def _p99_over_whole(rows: Sequence[Row]) -> Iterator[tuple[str, float]]:
    """(network, p99 in flight over that of whole generations), where both are supported."""
    for row in of_part(rows, "load"):
        network, _, load = row["name"].rpartition(", ")
        found = [row["sides"][side]["seconds"].get("p99") for side in (IN_FLIGHT, WHOLE)]
        if load == LOADED and all(p is not None and p["value"] is not None for p in found):
            yield network, found[0]["value"] / found[1]["value"]


def _range(values: Collection[float]) -> str:
    low, high = (f"{end(values):.2g}" for end in (min, max))
    return low if low == high else f"{low} to {high}"


BLOCKS: dict[str, Callable[[Sequence[Row]], str]] = {
    "targets": targets_table,
    "saturation": saturation_table,
    "sweep": sweep_table,
    "steps": steps_table,
    "scheduler": scheduler_table,
    "machine": machine_line,
    "worth": worth_line,
}


def _draw(rows: Sequence[Row], root: Path) -> None:
    if of_part(rows, "load"):
        draw(of_part(rows, "load"), root / PLOT)


TABLES = Tables[Sequence[Row]](
    suite="service", pages=PAGES, tables=BLOCKS, plot=_draw,
    rows=lambda root: last_rows(rows_at(root / ROWS)),
)  # fmt: skip
