"""The plot of docs/cpu.md: a network call in every form, beside today's (needs matplotlib)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from suites.cpu.grid import EXPORTED, FORMS, form_seconds, title_of

COLORS = ("#7f7f7f", "#c0c0c0", "#1f77b4", "#9ecae1", "#d95f0e", "#fdbe85")
WIDTH = 0.13
STYLE: Any = {
    "font.size": 9.0,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}
MARKS = {"fp32": ("v", "black", "chosen in fp32"), "auto": ("*", "#d62728", "chosen with bf16")}


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes the plot of the grid's rows as a PNG file: a panel a batch, bars a network."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    batches = sorted({row["batch"] for row in rows})
    with mpl.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(batches), figsize=(10.5, 3.8), layout="constrained", squeeze=False, sharey=True
        )
        for panel, batch in zip(axes[0], batches, strict=True):
            _panel(panel, [row for row in rows if row["batch"] == batch])
            panel.set_title(f"batch {batch}", fontsize=9.5)
        axes[0][0].set_ylabel("time over ONNX Runtime's, as exported")
        figure.legend(*_legend(axes[0]), loc="outside right upper")
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=100)
        plt.close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(buffer) as picture:
        picture.convert("RGB").quantize(64).save(path, optimize=True)


def _panel(panel: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bars of every network, and marks over those that compile chose."""
    for number, title in enumerate(FORMS.values()):
        places, heights = [], []
        for place, row in enumerate(rows):
            found = form_seconds(row)
            if title in found:
                places.append(place + (number - 2.5) * WIDTH)
                heights.append(found[title] / found[EXPORTED])
        panel.bar(places, heights, WIDTH, color=COLORS[number], label=title)
    for name, (marker, color, label) in MARKS.items():
        points = [(place, row) for place, row in enumerate(rows) if name in row["choice"]]
        chosen = [_above(place, row, name) for place, row in points]
        if chosen:
            panel.scatter(*zip(*chosen, strict=True), marker=marker, color=color, label=label, s=28)
    panel.axhline(1.0, color="black", linewidth=0.8)
    panel.set_xticks(range(len(rows)), [row["network"] for row in rows])
    panel.tick_params(axis="x", length=0)


def _above(place: int, row: Mapping[str, Any], name: str) -> tuple[float, float]:
    """Where a choice's mark stands; the two are set apart where both chose the same."""
    title = title_of(row["forms"][row["choice"][name]["form"]])
    found = form_seconds(row)
    bar = list(FORMS.values()).index(title)
    lift = 0.04 if name == "fp32" else 0.11
    return place + (bar - 2.5) * WIDTH, found[title] / found[EXPORTED] + lift


def _legend(panels: Sequence[Any]) -> tuple[list[Any], list[str]]:
    found: dict[str, Any] = {}
    for panel in panels:
        found |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)
