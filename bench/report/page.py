"""The report: a page of sections, each of tables and plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from revstep.bench.report.html import Html, joined, page, section, tag
from revstep.bench.report.sections import SECTIONS, Given, Row, Section, machines_of
from revstep.bench.report.style import CSS, Palette, plotting, svg_of, write_png
from revstep.engine.system.files import write_whole

KINDS = ("latency", "serve")


def write_report(
    rows: Sequence[Row], path: Path, *, quality: Sequence[Row] = (), pngs: Path | None = None
) -> list[Path]:
    """Writes the page, and its plots as PNG files.

    Args:
        rows: Of ``bench``.
        path: The HTML file.
        quality: Rows of quality against network calls.
        pngs: The PNGs' folder; None: none.

    Returns:
        The files.

    Raises:
        ValueError: No row is of whole runs or of a service.
    """
    given = Given([row for row in rows if row["bench"] in KINDS], quality)
    if not given.rows:
        found = ", ".join(sorted({str(row["bench"]) for row in rows})) or "none"
        raise ValueError(
            f"a report is of rows of `revstep bench run` and `revstep bench serve`; these are of: "
            f"{found}"
        )
    text = report_page(given)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: file.write(text.encode()))
    return [path, *([] if pngs is None else _write_pngs(given, pngs))]


def report_page(given: Given) -> str:
    """The page's text: it refers to nothing but itself."""
    there = {name: each for name, each in SECTIONS.items() if each.there(given)}
    palette = Palette.standing_in()
    body = [
        section(name, each.title, each.text(given), _figures(name, each, given, palette))
        for name, each in there.items()
    ]
    missing = [each.otherwise for each in SECTIONS.values() if not each.there(given)]
    if missing := [text for text in missing if text]:
        items = joined(tag("li", text) for text in missing)
        body.append(section("missing", "Not measured here", tag("ul", items)))
    title = f"Latency of {', '.join(_subjects(given.rows))}"
    links = joined(tag("a", each.title, href=f"#{name}") for name, each in there.items())
    header = tag("header", tag("h1", title), _machine_line(given), tag("nav", links))
    return page(title, CSS.read_text(encoding="utf-8"), header, tag("main", *body))


def _write_pngs(given: Given, folder: Path) -> list[Path]:
    palette, files = Palette.light(), []
    for name, each in SECTIONS.items():
        if each.draw is None or not each.there(given):
            continue
        with plotting(palette) as plt:
            for number, figure in enumerate(each.draw(plt, given, palette), 1):
                files.append(folder / (f"{name}.png" if number == 1 else f"{name}-{number}.png"))
                write_png(figure, files[-1])
    return files


def _figures(name: str, each: Section, given: Given, palette: Palette) -> Html:
    if each.draw is None:
        return Html()
    with plotting(palette) as plt:
        found = [
            tag("figure", Html(svg_of(figure, f"{name}-{number}", palette)), aria_label=each.title)
            for number, figure in enumerate(each.draw(plt, given, palette))
        ]
    return tag("div", *found, class_="plots")


def _subjects(rows: Sequence[Row]) -> list[str]:
    """Bundles, and services."""
    names = [
        row["bundle"]["name"] if row["bench"] == "latency" else str(row["service"]["model"]["name"])
        for row in rows
    ]
    return list(dict.fromkeys(names))


def _machine_line(given: Given) -> Html:
    machines = machines_of(given.rows)
    first = machines[0]
    gpus = f", {', '.join(first['gpus'])}" if first["gpus"] else ""
    times = sorted(row["machine"]["time"] for row in given.rows)
    lines = [f"{first['cpu']}, {first['cores']} cores{gpus}; {times[0]} to {times[-1]}"]
    if machines[1:]:
        lines.append(
            f"These rows are of {len(machines)} machines or builds: their times aren't comparable."
        )
    return joined(tag("p", line, class_="soft") for line in lines)
