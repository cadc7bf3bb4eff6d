"""``revstep bench report``: rows as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from revstep.commands.errors import report_errors
from revstep.commands.extras import need

QUALITY = ("sampler", "calls", "images", "frechet_distance")


@report_errors
def report(
    files: Annotated[
        list[Path], typer.Argument(help="Rows of `bench run` and `bench serve`.", metavar="ROWS...")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    quality: Annotated[
        Path | None,
        typer.Option(
            help="Rows of quality against network calls, of the same denoiser: of the bundled one, "
            "a checkout's bench/results/quality_steps.jsonl."
        ),
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="A folder that gets the plots as PNG files too.")
    ] = None,
) -> None:
    """Write one self-contained HTML page: tables, plots, the machine, and what disturbed it.

    It needs no network, has no script, and is light or dark as the reader's system is.
    """
    from revstep.bench.report.page import write_report
    from revstep.bench.rows import measured_rows, read_rows

    need("matplotlib", "PIL", purpose="a report")
    rows = [row for path in files for row in measured_rows(path)]
    more = [] if quality is None else read_rows(quality, QUALITY)
    for path in write_report(rows, output, quality=more, pngs=png):
        typer.echo(path)
