"""``revstep bench compare``: two files of rows, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from revstep.bench.measure.titles import cell_name
from revstep.commands.errors import MACHINE, report_errors
from revstep.commands.output import out, print_json
from revstep.commands.shared_options import AsJson

if TYPE_CHECKING:
    from revstep.bench.row_pairs import Compared


@report_errors
def compare(
    before: Annotated[Path, typer.Argument(help="Rows of `bench run`.", metavar="BEFORE")],
    after: Annotated[Path, typer.Argument(help="Those that are judged.", metavar="AFTER")],
    threshold: Annotated[
        float, typer.Option(help="The smallest relative difference that matters.", min=0.0)
    ] = 0.02,
    any_machine: Annotated[
        bool, typer.Option("--any-machine", help="Compare rows of different machines too.")
    ] = False,
    fail_on_slower: Annotated[
        bool, typer.Option("--fail-on-slower", help="Exit code 1 where a cell is slower.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say of each cell that two files share whether AFTER is same, faster, slower, or ambiguous.

    Several rows of a cell in one file are as many starts of it. Where five or more of both files
    were measured in turns, their pairs are compared, and what drifted is left out.
    """
    from revstep.bench.row_pairs import compare_rows
    from revstep.bench.rows import measured_rows

    sides = [measured_rows(path) for path in (before, after)]
    found = compare_rows(*sides, threshold=threshold, any_machine=any_machine)
    if as_json:
        print_json({"threshold": threshold, "cells": [each.to_dict() for each in found]})
    else:
        _show(found)
    if fail_on_slower and any(each.verdict == "slower" for each in found):
        raise typer.Exit(MACHINE)


def _show(found: Sequence[Compared]) -> None:
    table = Table(box=None, pad_edge=False, title="AFTER beside BEFORE", title_justify="left")
    table.add_column("cell", no_wrap=True)
    for heading in ("before\nms", "after\nms", "times\nas fast", "95 %\ninterval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("AFTER is", no_wrap=True)
    for each in found:
        interval = each.interval
        table.add_row(
            cell_name(each.after.rows[0]),
            f"{each.before.median_s * 1e3:.3f}",
            f"{each.after.median_s * 1e3:.3f}",
            f"{interval['ratio']:.3f}",
            f"{interval['low']:.3f} to {interval['high']:.3f}",
            each.verdict,
        )
    out().print(table)
    said: dict[str, None] = {}
    for each in found:
        for note in each.notes:
            where = "" if note.startswith(("what differs", "the interval")) else (
                f"{cell_name(each.after.rows[0])}: "
            )  # fmt: skip
            said[f"{where}{note}"] = None
    for line in said:
        typer.echo(line)
