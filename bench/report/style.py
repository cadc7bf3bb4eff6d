"""How plots look: inside a page by the page's own colours, in a PNG by those of the light page."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIZE = (4.7, 3.1)  # inches
LONG = 24  # letters of a name, which then has a legend's line for itself
CSS = Path(__file__).with_name("page.css")
NAMES = ("ink", "soft", "line", "wrong", *(f"series-{number}" for number in range(1, 7)))


@dataclasses.dataclass(frozen=True, slots=True)
class Palette:
    """Colours of a plot by the names that the page has for them.

    Attributes:
        colors: name -> ``#rrggbb``.
    """

    colors: dict[str, str]

    @classmethod
    def standing_in(cls) -> Palette:
        """Colours that nobody sees: ``svg_of`` puts the page's variables in their place."""
        return cls({name: f"#0101{number:02x}" for number, name in enumerate(NAMES, 1)})

    @classmethod
    def light(cls) -> Palette:
        """Those of the page where it is light."""
        root = CSS.read_text(encoding="utf-8").partition("}")[0]
        found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", root))
        return cls({name: found[name] for name in NAMES})

    def __getitem__(self, name: str) -> str:
        return self.colors[name]

    def series(self, number: int) -> str:
        """Of the plot's lines or bars, in turn."""
        return self.colors[f"series-{number % 6 + 1}"]

    @property
    def settings(self) -> Any:
        """Matplotlib's."""
        ink, soft, line = self["ink"], self["soft"], self["line"]
        return {
            "font.size": 10.0, "axes.titlesize": 10.0, "axes.titlelocation": "left",
            "legend.fontsize": 9.0, "legend.frameon": False, "font.family": ["sans-serif"],
            "text.parse_math": False,   # a bundle's name may have a dollar sign
            "svg.fonttype": "none", "figure.facecolor": "none", "axes.facecolor": "none",
            "text.color": ink, "axes.labelcolor": soft, "axes.edgecolor": line,
            "axes.spines.top": False, "axes.spines.right": False,
            "axes.grid": True, "axes.axisbelow": True, "grid.color": line, "grid.linewidth": 0.6,
            "xtick.color": line, "ytick.color": line, "xtick.labelcolor": soft,
            "ytick.labelcolor": soft, "lines.linewidth": 1.6, "lines.markersize": 5.0,
        }  # fmt: skip


@contextmanager
def plotting(palette: Palette) -> Iterator[Any]:
    """Matplotlib's ``pyplot`` without a screen, in these colours."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with mpl.rc_context(palette.settings):
        yield plt


def add_legend(figure: Any, axes: Any, columns: int) -> None:
    """What several lines are, below the plot, which grows by it; long names have one column."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) < 2:
        return
    columns = 1 if max(map(len, labels)) > LONG else columns
    figure.set_figheight(SIZE[1] + 0.2 * -(-len(labels) // columns))
    figure.legend(handles, labels, loc="outside lower left", ncols=columns)


def svg_of(figure: Any, name: str, palette: Palette) -> str:
    """The figure as an element of a page: no outside resource, colours of the page.

    Args:
        figure: Of matplotlib, in colours that stand in.
        name: Other than that of the page's other plots: what is referred to is named after it.
        palette: The colours.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=none)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    head, end, body = text.partition(">")
    box = re.findall(r'viewBox="[^"]*"', head)
    colors = {color: name for name, color in palette.colors.items()}
    body = re.sub("|".join(colors), lambda m: f"var(--{colors[m[0]]})", body)
    return f'<svg {box[0]} role="img"{end}{body}'.replace("xlink:href", "href")


def write_png(figure: Any, path: Path) -> None:
    """The figure as a PNG file, on white."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130, facecolor="white")
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(buffer) as picture:
        picture.convert("RGB").quantize(96).save(path, optimize=True)
