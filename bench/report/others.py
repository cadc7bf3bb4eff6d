"""The plots beside those of whole runs: baselines, deadlines, loads of a service, quality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from revstep.bench.load.looked_into import in_slices, loads_of, looked_into
from revstep.bench.measure.titles import short_names
from revstep.bench.report.style import SIZE, Palette, add_legend

Row = dict[str, Any]

SHOWN = ("p50", "p90", "p99")


def baselines(plt: Any, rows: Sequence[Row], palette: Palette) -> Iterator[Any]:
    """How many times as fast as each baseline, with the intervals."""
    those = [row for row in rows if row.get("vs")]
    if not those:
        return
    lines = [
        (f"{name}, {label}" if len(those) > 1 else name, found["ratio"])
        for row, label in zip(those, short_names(those), strict=True)
        for name, found in row["vs"].items()
    ]
    figure, axes = plt.subplots(figsize=(SIZE[0], 1.2 + 0.42 * len(lines)), layout="constrained")
    for place, (name, ratio) in enumerate(reversed(lines)):
        axes.hlines(place, ratio["low"], ratio["high"], color=palette.series(0), linewidth=4.0,
                    alpha=0.45)  # fmt: skip
        axes.plot(ratio["ratio"], place, "o", color=palette.series(0))
        # above it: a long name beside it leaves the interval no room
        axes.annotate(
            name, (0.0, place), xycoords=("axes fraction", "data"), xytext=(2.0, 6.0),
            textcoords="offset points", color=palette["soft"], fontsize=9.0,
        ).set_in_layout(False)  # fmt: skip
    axes.axvline(1.0, color=palette["soft"], linewidth=1.0)
    axes.set_yticks([])
    axes.set(xlabel="times as fast, 95 % interval", ylim=(-0.6, len(lines) - 0.2))
    yield figure
    plt.close(figure)


def deadlines(plt: Any, rows: Sequence[Row], palette: Palette) -> Iterator[Any]:
    """What was tried against the deadline: the percentile that was judged, with its interval."""
    for row, cell in zip(rows, short_names(rows), strict=True):
        deadline = row.get("deadline")
        tried = sorted((deadline or {}).get("tried", ()), key=lambda each: int(each["value"]))
        tried = [each for each in tried if each["seconds"] is not None]
        if not deadline or len(tried) < 2:
            continue
        figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
        for each in tried:
            found = {name: value * 1e3 for name, value in each["seconds"].items()}
            color = palette.series(0) if each["verdict"] == "fits" else palette["wrong"]
            axes.vlines(each["value"], found["low"], found["high"], color=color, linewidth=4.0,
                        alpha=0.45)  # fmt: skip
            axes.plot(each["value"], found["value"], "o", color=color)
        limit = deadline["deadline_s"] * 1e3
        axes.axhline(limit, color=palette["soft"], linewidth=1.0)
        axes.set_ylim(bottom=0.0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel=deadline["find"], ylabel="ms of a run, the judged percentile")
        axes.set_title(f"{cell}: within {limit:g} ms")
        yield figure
        plt.close(figure)


def loads(plt: Any, rows: Sequence[Row], palette: Palette) -> Iterator[Any]:
    """The rate of arrivals against latency; and the load that is looked into, in slices of time."""
    found = sorted(loads_of(rows), key=lambda row: float(row["load"]["rate"]))
    if not found:
        return
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    places = [(row["load"]["rate"], row["summary"]["percentiles"]) for row in found]
    _percentile_lines(axes, places, palette)
    limit = next((row["limit"] for row in found if row["limit"]), None)
    if limit is not None:
        axes.axhline(limit["seconds"] * 1e3, color=palette["soft"], linewidth=1.0)
    axes.set_ylim(bottom=0.0)
    axes.set(xlabel="requests a second", ylabel="ms from the schedule")
    add_legend(figure, axes, 3)
    yield figure
    plt.close(figure)
    if (shown := looked_into(rows)) is not None and in_slices(shown):
        yield from _slices(plt, shown, palette)


def _slices(plt: Any, row: Row, palette: Palette) -> Iterator[Any]:
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    slices = [((s["from_s"] + s["to_s"]) / 2, s["percentiles"]) for s in in_slices(row)]
    _percentile_lines(axes, slices, palette)
    axes.set_ylim(bottom=0.0)
    axes.set(xlabel="seconds of the load", ylabel="ms from the schedule")
    axes.set_title(f"{row['load']['rate']:.4g} requests a second, in slices")
    add_legend(figure, axes, 3)
    yield figure
    plt.close(figure)


def _percentile_lines(axes: Any, places: Sequence[tuple[float, Row]], palette: Palette) -> None:
    """A line a percentile, in ms, over the places where it is supported and not "never"."""
    for number, name in enumerate(SHOWN):
        points = [
            (place, value["value"] * 1e3)
            for place, percentiles in places
            if (value := percentiles.get(name)) and value["value"] is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=palette.series(number), label=name)


def quality(
    plt: Any, points: dict[str, list[tuple[float, float]]], palette: Palette
) -> Iterator[Any]:
    """The distance to the training images against the time of a sample, a line a sampler.

    Args:
        plt: ``pyplot``.
        points: sampler -> (seconds of a sample, Fréchet distance), by time.
        palette: The colours.
    """
    if not points:
        return
    figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
    for number, (name, line) in enumerate(points.items()):
        style = "o-" if number < 6 else "s--"
        axes.plot([t * 1e3 for t, _ in line], [d for _, d in line], style,
                  color=palette.series(number), label=name)  # fmt: skip
    axes.set_xscale("log")
    axes.set(xlabel="ms of a sample", ylabel="Fréchet distance (less is better)")
    add_legend(figure, axes, 3)
    yield figure
    plt.close(figure)
