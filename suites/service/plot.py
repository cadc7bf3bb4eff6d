"""The plot of docs/service.md, latency against load: `python -m suites.service.plot`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suites.service.sides import ALONE, IN_FLIGHT, WHOLE

COLORS = {IN_FLIGHT: "#1f77b4", WHOLE: "#d95f0e", ALONE: "#7f7f7f"}
MARKS = {IN_FLIGHT: "o", WHOLE: "s", ALONE: "^"}
STYLE: Any = {
    "font.size": 9.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

Row = Mapping[str, Any]
ROWS, PLOT = Path("bench/results/service.jsonl"), Path("docs/images/service.png")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Writes the plot of the loads' rows as a PNG file: a panel a network and percentile.

    Above the median, below the highest percentile that the network's arrivals support.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    networks = list(dict.fromkeys(row["network"] for row in rows))
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, len(networks), figsize=(2.9 * len(networks) + 0.6, 5.6), layout="constrained",
            squeeze=False, sharex=True,
        )  # fmt: skip
        for column, network in enumerate(networks):
            of_network = sorted((r for r in rows if r["network"] == network), key=_load)
            for panel, percentile in zip(
                axes[:, column], ("p50", highest(of_network)), strict=True
            ):
                _panel(panel, of_network, percentile)
                panel.set_title(f"{network}, {percentile}", fontsize=9.5)
            axes[1][column].set_xlabel("load, % of whole generations' saturation")
        for panel in axes[:, 0]:
            panel.set_ylabel("latency, ms")
        figure.legend(*_legend(axes[0][0]), loc="outside upper center", ncols=len(COLORS) + 1)
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=100)
        plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(buffer) as picture:
        picture.convert("RGB").quantize(64).save(path, optimize=True)


def highest(rows: Sequence[Row]) -> str:
    """The highest percentile that at least two loads of a network support."""
    for percentile in ("p99", "p90"):
        if sum(bool(points([row], IN_FLIGHT, percentile)) for row in rows) > 1:
            return percentile
    return "p50"


def points(
    rows: Sequence[Row], side: str, percentile: str, source: str = "sides"
) -> list[tuple[float, float]]:
    """(load in percent, milliseconds) of a side, where the percentile is supported and a reply."""
    found = []
    for row in rows:
        values = row[source][side]
        values = values["seconds"] if source == "sides" else values
        value = values.get(percentile, {}).get("value")
        if value is not None:
            found.append((100 * row["load"], 1e3 * value))
    return found


def _load(row: Row) -> float:
    return float(row["load"])


def _panel(panel: Any, rows: Sequence[Row], percentile: str) -> None:
    """Three measured lines, and the simulated ones thin behind them."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for side, color in COLORS.items():
        if found := points(rows, side, percentile, "simulated"):
            panel.plot(*zip(*found, strict=True), ":", color=color, linewidth=0.9)
        if found := points(rows, side, percentile):
            marked = {"marker": MARKS[side], "markersize": 4, "linewidth": 1.6}
            panel.plot(*zip(*found, strict=True), color=color, label=side, **marked)
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(10.0, (1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())


def _legend(panel: Any) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    handles, labels = panel.get_legend_handles_labels()
    simulated = Line2D([], [], color="black", linestyle=":", linewidth=0.9)
    return [*handles, simulated], [*labels, "simulated"]


def main() -> None:
    """Draw the plot of the committed rows, in a checkout's root."""
    from revstep.bench.rows import read_rows
    from suites.cpu.table import last_rows, of_part

    draw(of_part(last_rows(read_rows(ROWS)), "load"), PLOT)


if __name__ == "__main__":
    main()
