"""``revstep doctor``: what this machine can run, as a table."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from revstep.commands.guard import MACHINE, guarded
from revstep.commands.output import out, print_json

__all__ = ["doctor"]

STYLES = {"ok": "green", "missing": "yellow", "unusable": "yellow", "conflict": "bold red"}


@guarded
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Say what this machine can run, and what to install for what it can't.

    Exit code 1 where installed packages are in conflict.
    """
    from revstep.doctor import examine

    report = examine()
    if as_json:
        print_json(report.to_dict())
    else:
        console = out()
        console.print(f"revstep {report.revstep}, {report.python}, {report.system}")
        console.print(f"CPU: {report.cpu['name']}, {report.cpu['usable_cores']} usable cores")
        console.print(f"     {' '.join(report.cpu['features'])}")
        for gpu in report.gpus:
            console.print(
                f"GPU: {gpu.name}, {gpu.memory_mib} MiB, compute capability "
                f"{gpu.compute_capability}, driver {gpu.driver}"
            )
        if not report.gpus:
            console.print("GPU: none that an NVIDIA driver reports")
        table = Table(box=None, pad_edge=False)
        for heading in ("part", "state", "what", "cure"):
            table.add_column(heading, overflow="fold")
        for check in report.checks:
            # Text: a cure holds [brackets], which markup would swallow
            table.add_row(
                check.name,
                Text(check.status, STYLES[check.status]),
                Text(check.detail),
                Text(check.cure or ""),
            )
        console.print(table)
    if not report.healthy:
        raise typer.Exit(MACHINE)
