"""What ``bench serve`` prints: its loads, one of them in slices of time, and what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from revstep.bench.load.looked_into import in_slices, looked_into
from revstep.commands.bench.table import PERCENTS, milliseconds

Row = dict[str, Any]
LOST = ("refused", "failed", "timeout", "unsent")
LATE_S = 0.01  # of sending: what is said
WHY = {"missed": "stopped early: the limit was surely missed", "interrupted": "interrupted"}


def loads_table(rows: Sequence[Row]) -> Table:
    """One line a load; a percentile that so few arrivals don't support is a dash."""
    judged = any(row["verdict"] for row in rows)
    good = any(row["goodput"] for row in rows)
    table = Table(box=None, pad_edge=False, title="latency from the schedule to the last byte",
                  title_justify="left")  # fmt: skip
    for heading in (
        *("requests\nper s", "arrivals", "p50\nms", "p90\nms", "p99\nms", "p99.9\nms"),
        *(("good\n%", "good\nper s") if good else ()),
        *LOST,
        *("sent late\nmax, ms",),
        *(("p99",) if judged else ()),
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted(rows, key=_rate):
        summary, goods = row["summary"], row["goodput"]
        table.add_row(
            f"{_rate(row):.4g}",
            str(row["arrivals"]),
            *(milliseconds(summary["percentiles"].get(name)) for name in PERCENTS),
            *((f"{100 * (goods['share'] or 0):.1f}", f"{goods['per_s'] or 0:.4g}") if good else ()),
            *(str(summary["outcomes"][name]) for name in LOST),
            f"{1e3 * summary['late_s'].get('max', 0.0):.1f}",
            *((row["verdict"],) if judged else ()),
        )
    return table


def slices_table(row: Row) -> Table:
    """A load in slices of time."""
    title = f"{_rate(row):.4g} a second, in slices"
    table = Table(box=None, pad_edge=False, title=title, title_justify="left")
    for heading in ("from\ns", "sent\nper s", "p50\nms", "p90\nms", "p99\nms", "failures",
                    "sent late\nmax, ms"):  # fmt: skip
        table.add_column(heading, justify="right", no_wrap=True)
    for part in in_slices(row):
        table.add_row(
            f"{part['from_s']:.1f}",
            f"{part['sent_per_s']:.4g}",
            *(milliseconds(part["percentiles"].get(name)) for name in PERCENTS[:3]),
            str(part["failures"]),
            "-" if part["late_s"] is None else f"{1e3 * part['late_s']:.1f}",
        )
    return table


def load_line(row: Row) -> str:
    """A load in one line, as it ends."""
    summary = row["summary"]
    named = ", ".join(
        f"{name} never" if value["value"] is None else f"{name} {milliseconds(value)} ms"
        for name, value in summary["percentiles"].items()
    )
    lost = ", ".join(f"{summary['outcomes'][n]} {n}" for n in LOST if summary["outcomes"][n])
    steady = "not steady" if row["drift"]["growing"] else ""
    why = WHY.get(row["stopped"], "")
    parts = (named or "too few arrivals", lost, row["verdict"] or "", steady, why)
    return f"{_rate(row):.4g} a second: {'; '.join(part for part in parts if part)}"


def said_of(rows: Sequence[Row]) -> Iterator[str]:
    """What is to be said of the loads: what was found, what failed, whether they were steady."""
    for row in rows:
        if row["part"] == "search":
            yield _found(row)
    if (shown := looked_into(rows)) is not None:
        yield from _details(shown)
    first = rows[0]
    alone, requests = first["alone"], first["requests"]
    yield (
        f"seed {_seed(first)}; {requests['source']}, {requests['bodies']} to draw from; alone a "
        f"request takes {alone['median_s'] * 1e3:.3g} ms; "
        f"{first['service']['model']['slots']} slots"
    )


def _found(row: Row) -> str:
    limit = f"p{row['limit']['percent']:g} of {row['limit']['seconds'] * 1e3:g} ms"
    rate = row["found_per_s"]
    if rate is None:
        return f"{limit} holds at no rate down to {row['least']:.3g} a second, the lowest that " \
               f"{row['seconds']:g} s support: a longer --seconds goes lower"  # fmt: skip
    beyond = [tried for tried in row["tried"] if tried["rate"] > rate]
    if not beyond:
        return f"{limit} holds at {rate:.4g} requests a second, the most that is tried"
    nearest = min(beyond, key=lambda tried: float(tried["rate"]))
    return (
        f"{limit} holds at {rate:.4g} requests a second; at {nearest['rate']:.4g} it is "
        f"{nearest['verdict']}"
    )


def _details(row: Row) -> Iterator[str]:
    summary, drift = row["summary"], row["drift"]
    at = f"{_rate(row):.4g} a second"
    if row["stopped"] in WHY:
        yield f"{at}: {WHY[row['stopped']]}; {row['arrivals']} of {row['planned']} arrivals count"
    elif more := summary["more_arrivals"]:
        listed = ", ".join(
            f"{name} takes {count / _rate(row):.3g} s more" for name, count in more.items()
        )
        yield f"{at}: {listed}"
    if summary["reasons"]:
        listed = ", ".join(f"{count} {why}" for why, count in summary["reasons"].items())
        yield f"{at}: not answered: {listed}"
    if drift["growing"]:
        last = "no answer" if drift["last_s"] is None else f"{drift['last_s'] * 1e3:.3g} ms"
        yield (
            f"{at}: not steady: the median of the last requests is {last}, of the first "
            f"{drift['first_s'] * 1e3:.3g} ms; a queue grows, and more --seconds give more latency"
        )
    late = summary["late_s"].get("max", 0.0)
    if summary["outcomes"]["unsent"]:
        yield f"{at}: the client was the limit: {summary['outcomes']['unsent']} were not sent"
    elif late > LATE_S:
        yield f"{at}: requests were sent up to {late * 1e3:.0f} ms late, which counts as latency"
    if not row["idle_before"]:
        yield f"{at}: the service had other requests before the load"


def _rate(row: Row) -> float:
    return float(row["load"]["rate"])


def _seed(row: Row) -> int:
    return int(row["load"]["seed"] if row["part"] == "load" else row["seed"])
