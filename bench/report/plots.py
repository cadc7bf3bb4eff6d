"""The plots of whole runs: their distribution, batches, where their time goes, cold starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np

from revstep.bench.measure.cold import PHASES
from revstep.bench.measure.titles import short_names
from revstep.bench.report.style import SIZE, Palette, add_legend

Row = dict[str, Any]

LINES = 6  # of one plot, at most: so many colours there are
OURS = "revstep"
WIDE = 8.0  # the largest over the smallest value, from which an axis is logarithmic
PARTS = (("network_s", "network"), ("sampler_s", "sampler"), ("gap_s", "gaps"))
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def distribution(plt: Any, rows: Sequence[Row], palette: Palette) -> Iterator[Any]:
    """Shares of runs that ended within a time, with the percentiles that are supported."""
    names = short_names(rows)
    for begin in range(0, len(rows), LINES):
        figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
        chunk = list(zip(rows, names, strict=True))[begin : begin + LINES]
        for number, (row, name) in enumerate(chunk):
            times = np.sort(row["times_s"][OURS]) * 1e3
            color = palette.series(number)
            share = np.arange(1, len(times) + 1) / len(times)
            axes.step(times, share, where="post", color=color, label=name)
            for percent, found in row["summary"]["percentiles"].items():
                low, middle, high = (found[k] * 1e3 for k in ("low", "value", "high"))
                height = SHARES[percent]
                axes.hlines(height, low, high, color=color, linewidth=3.0, alpha=0.45)
                axes.plot(middle, height, "o", color=color)
        _scale(axes.set_xscale, [t * 1e3 for row, _ in chunk for t in row["times_s"][OURS]])
        _plain(axes.xaxis)
        axes.set(xlabel="ms of a run", ylabel="share of runs within", ylim=(0.0, 1.03))
        add_legend(figure, axes, 2)
        yield figure
        plt.close(figure)


def batches(plt: Any, rows: Sequence[Row], palette: Palette) -> Iterator[Any]:
    """Batch against latency (p50, and to p99 where it is supported) and against throughput."""
    groups = list(_by_batch(rows))
    for begin in range(0, len(groups), LINES):
        for what in ("latency", "throughput"):
            figure, axes = plt.subplots(figsize=SIZE, layout="constrained")
            chunk = groups[begin : begin + LINES]
            for number, (name, group) in enumerate(chunk):
                draw = _latency if what == "latency" else _throughput
                draw(axes, group, palette.series(number), name)
            sizes = sorted({row["cell"]["batch"] for _, group in chunk for row in group})
            _scale(axes.set_xscale, sizes)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.xaxis.set_tick_params(which="minor", bottom=False, labelbottom=False)
            label = "ms of a run, p50 to p99" if what == "latency" else "samples a second"
            axes.set(xlabel="batch", ylabel=label)
            axes.set_ylim(bottom=0.0)
            add_legend(figure, axes, 2)
            yield figure
            plt.close(figure)


def _by_batch(rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
    """Names of groups, and their rows: several that differ in their batch alone."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        rest = {name: value for name, value in row["cell"].items() if name != "batch"}
        found.setdefault(str([row["bundle"]["name"], *rest.values()]), []).append(row)
    groups = [
        sorted(group, key=lambda row: int(row["cell"]["batch"]))
        for group in found.values()
        if len({row["cell"]["batch"] for row in group}) > 1
    ]
    # Their first rows with one batch: what is left of the names tells the groups apart.
    firsts = [{**group[0], "cell": {**group[0]["cell"], "batch": 0}} for group in groups]
    names = [name.removesuffix(" batch 0") for name in short_names(firsts)] if firsts else []
    yield from zip(names, groups, strict=True)


def _latency(axes: Any, group: Sequence[Row], color: str, name: str) -> None:
    sizes = [row["cell"]["batch"] for row in group]
    axes.plot(sizes, [row["summary"]["median_s"] * 1e3 for row in group], "o-", color=color,
              label=name)  # fmt: skip
    for row in group:
        if top := row["summary"]["percentiles"].get("p99"):
            ends = (row["summary"]["median_s"] * 1e3, top["value"] * 1e3)
            axes.plot([row["cell"]["batch"]] * 2, ends, "_-", color=color, linewidth=1.0)


def _throughput(axes: Any, group: Sequence[Row], color: str, name: str) -> None:
    sizes = [row["cell"]["batch"] for row in group]
    axes.plot(sizes, [row["summary"]["samples_per_s"] for row in group], "o-", color=color,
              label=name)  # fmt: skip


def split(plt: Any, rows: Sequence[Row], palette: Palette) -> Iterator[Any]:
    """Where a step's time goes: shares of network, fused step and what lies between."""
    values = [[row["split"][key] for key, _ in PARTS] for row in rows]
    figure, axes, places = _share_bars(
        plt, short_names(rows), [label for _, label in PARTS], values, palette
    )
    launch = [100 * row["split"]["launch_s"] / max(1e-12, sum(max(0.0, v) for v in each)) for
              row, each in zip(rows, values, strict=True)]  # fmt: skip
    if any(launch):
        axes.plot(launch, places, "|", color=palette["ink"], markersize=12, label="launch (host)")
    axes.set(xlabel="% of a step", xlim=(0.0, max(100.0, *launch)))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    yield figure
    plt.close(figure)


def requests(plt: Any, rows: Sequence[Row], palette: Palette) -> Iterator[Any]:
    """Where a whole request's time goes: shares of its encoders, its loop and its decoder."""
    those = [row for row in rows if row.get("parts")]
    if not those:
        return
    values = [list(request_shares(row["parts"]).values()) for row in those]
    labels = list(request_shares(those[0]["parts"]))
    figure, axes, _ = _share_bars(plt, short_names(those), labels, values, palette)
    axes.set(xlabel="% of a whole request", xlim=(0.0, 100.0))
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    yield figure
    plt.close(figure)


def request_shares(found: Row) -> dict[str, float]:
    """Median seconds of a row's ``parts``: all encoders, the loop, the decoder and the rest."""
    middle = {name: summary["median_s"] for name, summary in found["times"].items()}
    encoders = sum(value for name, value in middle.items() if name.startswith("encoder."))
    return {
        "encoders": encoders, "loop": middle["loop"], "decoder": middle.get("decoder", 0.0),
        "the rest": found["rest_s"],
    }  # fmt: skip


def _share_bars(
    plt: Any,
    names: Sequence[str],
    labels: Sequence[str],
    values: Sequence[Sequence[float]],
    palette: Palette,
) -> tuple[Any, Any, Any]:
    """(figure, axes, the bars' places) of a bar a name, its values beside each other as shares."""
    figure, axes = plt.subplots(figsize=(SIZE[0], 1.3 + 0.34 * len(names)), layout="constrained")
    places = np.arange(len(names))[::-1]
    left = np.zeros(len(names))
    array = np.maximum(0.0, np.array(values))
    shares = 100 * array / np.maximum(array.sum(axis=1, keepdims=True), 1e-12)
    for number, label in enumerate(labels):
        axes.barh(places, shares[:, number], left=left, height=0.7, color=palette.series(number),
                  label=label)  # fmt: skip
        left += shares[:, number]
    axes.set_yticks(places, names)
    axes.grid(visible=False, axis="y")
    return figure, axes, places


def cold(plt: Any, rows: Sequence[Row], palette: Palette) -> Iterator[Any]:
    """From a process's start to its first sample: each start, in its parts."""
    row = next((row for row in rows if row.get("cold")), None)
    if row is None:
        return
    starts = row["cold"]["starts"]
    figure, axes = plt.subplots(
        figsize=(SIZE[0], 1.3 + 0.34 * (len(starts) + 1)), layout="constrained"
    )
    parts = [phase for phase in PHASES if phase not in ("second_s", "total_s")]
    rows_of = [{phase: median(s[phase] for s in starts) for phase in parts}, *starts]
    places = np.arange(len(rows_of))[::-1]
    left = np.zeros(len(rows_of))
    for number, phase in enumerate(parts):
        widths = np.array([each[phase] for each in rows_of])
        axes.barh(places, widths, left=left, height=0.7, color=palette.series(number),
                  label=phase.removesuffix("_s").replace("first", "first run"))  # fmt: skip
        left += widths
    axes.set_yticks(places, ["medians", *(f"start {n + 1}" for n in range(len(starts)))])
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="seconds")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    yield figure
    plt.close(figure)


def _scale(set_scale: Any, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) > WIDE * min(values):
        set_scale("log")


def _plain(axis: Any) -> None:
    """Numbers as people write them, on a logarithmic axis too."""
    if axis.get_scale() == "log":
        from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
