"""The plots of the proofs, as small PNG files (needs matplotlib: extra ``plots``)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from proofs.quality import same_but_seed

FOLDER = Path("docs") / "images"
MARKERS = "osD^vP*X"
STYLE: Any = {
    "font.size": 9.0,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "lines.markersize": 4.0,
    "lines.linewidth": 1.2,
}


def draw_plots(results: dict[str, Any], rows: list[dict[str, Any]], folder: Path = FOLDER) -> None:
    """Writes the plots whose results are there.

    Args:
        results: What ``python -m proofs`` found, part by part.
        rows: Of quality against steps.
        folder: Where the PNG files go.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for part, draw in PLOTS.items():
            if part in results:
                _save(draw(results[part]), folder / f"{part}.png")
        if rows:
            _save(_quality(rows), folder / "quality_steps.png")


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    plt.close(figure)
    with Image.open(buffer) as picture:  # matplotlib itself needs Pillow
        picture.convert("RGB").quantize(64).save(path, optimize=True)


def _panels(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)


def _convergence(found: dict[str, Any]) -> Any:
    """Four panels, one per order, each with a line of that slope."""
    import matplotlib as mpl

    twenty = mpl.colormaps["tab20"]
    figure, axes = _panels(2, 2, (12.0, 7.0))
    steps = np.array(found["steps"], dtype=float)
    for order, panel in zip((1, 2, 3, 4), axes.flat, strict=True):
        rows = [row for row in found["rows"] if row["order"] == order]
        for number, row in enumerate(rows):
            color = twenty(number) if len(rows) > 10 else f"C{number}"
            look = {"color": color, "marker": MARKERS[number % 8]}
            best = row.get("exact", row["own"])
            label = f"{row['solver']}, even {row['even']}: {best['slope']:.2f}"
            panel.loglog(steps, best["errors"], label=label, **look)
            if "exact" in row:
                panel.loglog(steps, row["own"]["errors"], linestyle=":", alpha=0.6, **look)
        errors = [row.get("exact", row["own"])["errors"][0] for row in rows]
        line = 2.0 * max(errors) * (steps / steps[0]) ** -float(order)
        panel.loglog(steps, line, color="black", linestyle="--", linewidth=0.9)
        dotted = "; dotted: own start" if order > 2 else ""
        panel.set_title(f"order {order} (dashed: slope {order}{dotted})", fontsize=9.5)
        panel.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        panel.set_xlabel("steps")
        _steps_axis(panel, found["steps"])
    axes[0][0].set_ylabel("error at the end")
    axes[1][0].set_ylabel("error at the end")
    return figure


def _laws(found: dict[str, Any]) -> Any:
    """Left: exact distances for one mode. Right: distances of samples of the mixture."""
    figure, axes = _panels(1, 2, (9.5, 5.2))
    left, right = axes[0]
    for number, row in enumerate(row for row in found["rows"] if not row["control"]):
        look = {"color": f"C{number % 10}", "marker": MARKERS[number % 8]}
        dashed = {"linestyle": "--" if number > 9 else "-"}
        if "one_mode" in row:
            one = row["one_mode"]
            label = f"{row['sampler']}: {one['slope']:.2f}"
            left.loglog(one["steps"], one["errors"], label=label, **look, **dashed)
        mixture = row["mixture"]
        right.loglog(mixture["calls"], mixture["distance"], label=row["sampler"], **look, **dashed)
    chance = [v for row in found["rows"] for v in row["mixture"]["by_chance"]]
    right.axhspan(0.0, float(np.mean(chance)), color="black", alpha=0.08)
    right.text(0.98, 0.02, "two exact samples", transform=right.transAxes, ha="right", fontsize=8)
    left.set(xlabel="steps", ylabel="2-Wasserstein distance", title="one mode, exact")
    right.set(xlabel="network calls", ylabel="sliced energy distance", title="mixture, samples")
    left.set_ylim(bottom=left.get_ylim()[0] * 1e-3)
    _steps_axis(left, found["rows"][0]["one_mode"]["steps"])
    left.legend(loc="lower left")
    figure.legend(
        *right.get_legend_handles_labels(), loc="outside right upper", title="right panel"
    )
    return figure


def _training_set(found: dict[str, Any]) -> Any:
    """Share of runs that return, and how sure the noisy point is, against the noise level."""
    figure, axes = _panels(1, 1, (5.2, 3.2))
    rows, panel = found["returned"], axes[0][0]
    levels = [row["level"] for row in rows]
    panel.semilogx(levels, [row["returned"] for row in rows], "o-", label="returned to its point")
    label = "probability of its point"
    panel.semilogx(levels, [row["own_point_probability"] for row in rows], "s--", label=label)
    panel.set(xlabel="noise level sigma / alpha at the start", ylabel="share of runs")
    panel.legend()
    return figure


def _quality(rows: list[dict[str, Any]]) -> Any:
    """Fréchet distance and class accuracy against network calls."""
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    figure, axes = _panels(1, 2, (9.0, 3.8))
    for number, (name, own) in enumerate(_by_sampler(rows)):
        calls = [row["calls"] for row in own]
        look = {"color": f"C{number}", "marker": MARKERS[number % 8], "label": name}
        for panel, key in zip(axes[0], ("frechet_distance", "accuracy"), strict=True):
            panel.plot(calls, [row[key] for row in own], **look)
    chance = same_but_seed(rows)
    for panel, key in zip(axes[0], ("frechet_distance", "accuracy"), strict=True):
        values = [row[key] for row in chance]
        label = f"{chance[0]['sampler']} at {chance[0]['steps']},\n{len(chance)} seeds"
        panel.axhspan(min(values), max(values), color="black", alpha=0.1, linewidth=0, label=label)
    left, right = axes[0]
    left.set(yscale="log", ylabel="Fréchet distance (classifier features)")
    left.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 4.0, 6.0)))
    left.yaxis.set_major_formatter(ScalarFormatter())
    left.yaxis.set_minor_locator(NullLocator())
    right.set(ylabel="class accuracy")
    right.axhline(rows[0]["real_accuracy"], color="black", linestyle="--", linewidth=0.9)
    right.text(100, rows[0]["real_accuracy"], "real test set ", va="bottom", ha="right", fontsize=8)
    for panel in axes[0]:
        panel.set(xscale="log", xlabel="network calls")
        _steps_axis(panel, (5, 10, 20, 50, 100))
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper")
    return figure


def _by_sampler(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Without the repeats of other seeds."""
    rows = [row for row in rows if row["seed"] == rows[0]["seed"]]
    for name in dict.fromkeys(row["sampler"] for row in rows):
        yield name, [row for row in rows if row["sampler"] == name]


def _steps_axis(panel: Any, ticks: Any) -> None:
    from matplotlib.ticker import NullLocator

    panel.set_xticks(ticks, [str(t) for t in ticks])
    panel.xaxis.set_minor_locator(NullLocator())


PLOTS = {"convergence": _convergence, "laws": _laws, "training_set": _training_set}
