"""The tables of the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from revstep.bench.load.looked_into import in_slices, loads_of, looked_into
from revstep.bench.measure.titles import part_names, place_of_largest, short_names
from revstep.bench.report.html import Html, joined, table, tag

Row = dict[str, Any]

PERCENTS = ("p50", "p90", "p99", "p99.9")
LOST = ("refused", "failed", "timeout", "unsent")
DASH = "–"
STOPPED = {"converged": "median known", "seconds": "out of time", "runs": "all runs made"}


def milliseconds(found: dict[str, float | None] | None) -> Html | str:
    """A percentile with its 99 % bounds below it; a dash where it is not supported."""
    if found is None:
        return DASH
    value, low, high = (
        "never" if (seconds := found[name]) is None else _digits(seconds)
        for name in ("value", "low", "high")
    )
    return joined([value, tag("small", f"{low} – {high}")])


def _digits(seconds: float) -> str:
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}" if value >= 1 else f"{value:.3f}"


def verdict(word: str) -> Html:
    """A verdict in its colour."""
    return tag("span", word, class_=word)


def cells(rows: Sequence[Row]) -> Html:
    """Percentiles and bounds of every cell."""
    return table(
        "ms of whole runs, from the call to the samples: the denoiser's loop, without encoders and "
        "decoder; below each percentile its bounds at 99 % confidence; a dash where so few runs "
        "support none",
        ("cell", "runs", *PERCENTS, "spread", "samples/s", "memory MiB", "stopped"),
        (
            (
                name,
                row["summary"]["runs"],
                *(milliseconds(row["summary"]["percentiles"].get(p)) for p in PERCENTS),
                f"{row['summary']['spread']:.1%}",
                f"{row['summary']['samples_per_s']:.4g}",
                _memory(row["memory"]),
                _stopped(row),
            )
            for row, name in zip(rows, short_names(rows), strict=True)
        ),
        words=(0, 9),
    )


def _memory(memory: Row) -> str:
    host, device = (memory[name] for name in ("host_bytes", "device_bytes"))
    others = "" if device is None or memory.get("device_of") == "process" else " (all processes)"
    held = [f"{value / 2**20:.0f}" for value in (host, device) if value is not None]
    return f"{' + '.join(held)}{others}" if held else DASH


def _stopped(row: Row) -> str:
    noise = row["summary"]["noise"]
    known = "" if noise is None else f", known to {noise:.1%}"
    return f"{STOPPED.get(row['stopped'], row['stopped'])}{known}"


def split(rows: Sequence[Row]) -> Html:
    """Seconds of a step's parts."""
    return table(
        "µs of a step; launch is the host's time to enqueue what a GPU does",
        ("cell", "step", "network", "sampler", "gaps", "launch"),
        (
            (
                name,
                f"{row['summary']['step_s'] * 1e6:,.1f}",
                *(
                    f"{row['split'][part] * 1e6:,.1f}"
                    for part in ("network_s", "sampler_s", "gap_s", "launch_s")
                ),
            )
            for row, name in zip(rows, short_names(rows), strict=True)
        ),
    )


def requests(rows: Sequence[Row]) -> Html:
    """What the networks of a whole request take of it."""
    those = [row for row in rows if row.get("parts")]
    return table(
        "ms; rows are those of each call: of the samples, and of a negative prompt; parts took "
        "turns with whole requests, and the rest is what these take beyond them: tokens, checks, "
        "copies",
        ("cell", "part", "rows", *PERCENTS, "share"),
        (
            (name, part, *_part_cells(row["parts"], key))
            for row, name in zip(those, short_names(those), strict=True)
            for part, key in part_names(row["parts"])
        ),
        words=(0, 1),
    )


def _part_cells(found: Row, key: str) -> Iterator[Html | str]:
    whole, summary = found["times"]["request"]["median_s"], found["times"].get(key)
    yield " + ".join(map(str, found["rows"].get(key, ())))
    if summary is None:
        yield from (_digits(found["rest_s"]), *(DASH for _ in PERCENTS[1:]))
        yield f"{found['rest_s'] / whole:.1%}"
        return
    yield from (milliseconds(summary["percentiles"].get(p)) for p in PERCENTS)
    yield DASH if key == "picture_encoder" else f"{summary['median_s'] / whole:.1%}"


def cold(row: Row) -> Html:
    """Medians of a cold start's parts."""
    found = row["cold"]
    names = {"process_s": "process", "import_s": "import", "load_s": "load", "first_s": "first run",
             "total_s": "to the first sample", "second_s": "second run"}  # fmt: skip
    hook = "" if found["hook"] is None else f", each after {found['hook']}"
    return table(
        f"ms, medians of {len(found['starts'])} processes{hook}",
        list(names.values()),
        [[_digits(found[name]) for name in names]],
        words=(),
    )


def baselines(rows: Sequence[Row]) -> Html:
    """Each baseline: its time, how many times as fast revstep is, and the difference."""
    those = [row for row in rows if row.get("vs")]
    return table(
        "whole runs that took turns in one process; the difference is the largest of any step, "
        "over the RMS; below it the step. From five openings of all sides on the interval is over "
        "their medians, of fewer over rounds",
        ("cell", "beside", "openings", "revstep ms", "its ms", "times as fast", "revstep is",
         "difference"),
        (
            (
                name, found["title"], max(1, len(row.get("openings", ()))),
                *(_digits(each["summary"]["median_s"]) for each in (row, found)),
                interval(found["ratio"]), verdict(found["verdict"]), _largest(found),
            )
            for row, name in zip(those, short_names(those), strict=True)
            for found in row["vs"].values()
        ),
        words=(0, 1),
    )  # fmt: skip


def _largest(found: Row) -> Html:
    """The largest difference of a baseline, with its step below it."""
    return joined([f"{found['largest_difference']:.1g}", tag("small", place_of_largest(found))])


def interval(ratio: dict[str, float]) -> Html:
    """A ratio with its interval below it."""
    ends = f"{ratio['low']:.3f} – {ratio['high']:.3f}"
    return joined([f"{ratio['ratio']:.3f}", tag("small", ends)])


def limits(rows: Sequence[Row]) -> Iterator[Html]:
    """What fits the deadline, and what a control loop missed."""
    names = dict(zip(map(id, rows), short_names(rows), strict=True))
    deadlines = [row for row in rows if row.get("deadline")]
    if deadlines:
        yield table(
            "the most that surely fits the deadline at the percentile",
            ("cell", "deadline ms", "searched", "fits", "tried"),
            (
                (
                    names[id(row)], f"{found['deadline_s'] * 1e3:g}", found["find"],
                    "not even 1" if found["found"] is None else found["found"],
                    joined(
                        joined([f"{each['value']} ", verdict(each["verdict"]), " "])
                        for each in sorted(found["tried"], key=lambda each: int(each["value"]))
                    ),
                )
                for row in deadlines
                for found in [row["deadline"]]
            ),
            words=(0, 4),
        )  # fmt: skip
    loops = [row for row in rows if row.get("tick")]
    if loops:
        yield table(
            "a control loop: ticks whose samples were not there before the next one",
            ("cell", "tick ms", "ticks", "missed", "skipped", "in a row", *PERCENTS[:3]),
            (
                (
                    names[id(row)], f"{found['tick_s'] * 1e3:g}", found["ticks"], found["misses"],
                    found["skipped"], found["longest_misses"],
                    *(milliseconds(found["percentiles"].get(p)) for p in PERCENTS[:3]),
                )
                for row in loops
                for found in [row["tick"]]
            ),
        )  # fmt: skip


def loads(rows: Sequence[Row]) -> Iterator[Html]:
    """Every load of a service, and one of them in slices of time."""
    found = sorted(loads_of(rows), key=lambda row: float(row["load"]["rate"]))
    yield table(
        "ms from the scheduled arrival to the last byte; what got no answer counts as never",
        ("requests/s", "arrivals", *PERCENTS, "good", *LOST, "holds"),
        (
            (
                f"{row['load']['rate']:.4g}", row["arrivals"],
                *(milliseconds(row["summary"]["percentiles"].get(p)) for p in PERCENTS),
                _good(row["goodput"]), *(row["summary"]["outcomes"].get(name, 0) for name in LOST),
                verdict(row["verdict"]) if row["verdict"] else DASH,
            )
            for row in found
        ),
    )  # fmt: skip
    shown = looked_into(rows)
    if shown is None or not in_slices(shown):
        return
    yield table(
        f"{shown['load']['rate']:.4g} requests a second, in slices of time",
        ("from s", "sent/s", *PERCENTS[:3], "failures"),
        (
            (
                f"{part['from_s']:.1f}", f"{part['sent_per_s']:.4g}",
                *(milliseconds(part["percentiles"].get(p)) for p in PERCENTS[:3]), part["failures"],
            )
            for part in in_slices(shown)
        ),
    )  # fmt: skip


def _good(goodput: Row | None) -> str:
    if goodput is None or goodput["share"] is None:
        return DASH
    return f"{goodput['share']:.1%} in {goodput['deadline_s'] * 1e3:g} ms"


def disturbances(rows: Sequence[Row]) -> Html:
    """What disturbed each cell, and its outliers."""
    return table(
        "",
        ("cell", "machine was", "because", "outliers, none left out", "error / bound"),
        (
            (
                name, verdict(row["disturbance"]["verdict"]),
                "; ".join(row["disturbance"]["reasons"]) or DASH,
                ", ".join(
                    f"{count} {kind.replace('_', ' ')}"
                    for kind, count in row["summary"]["outliers"].items() if count
                ) or DASH,
                f"{row['correct']['error']:.1g} / {row['correct']['bound']:g}",
            )
            for row, name in zip(rows, short_names(rows), strict=True)
        ),
        words=(0, 1, 2, 3),
    )  # fmt: skip


def machine(found: Row) -> Html:
    """A machine and its versions."""
    clocks = ", ".join(f"{name} {value}" for name, value in found["clocks"].items())
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = {
        "processor": f"{found['cpu']}, {found['cores']} cores",
        "features": " ".join(found["features"]), "clocks": clocks,
        "GPUs": ", ".join(found["gpus"]), "drivers": ", ".join(found["drivers"]),
        "system": found["system"], "Python": found["python"], "packages": versions,
        "commit": found["commit"] or "",
    }  # fmt: skip
    return table("", ("", ""), [(k, v) for k, v in lines.items() if v], words=(0, 1))
