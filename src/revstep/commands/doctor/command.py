"""``revstep doctor``: what this machine can run, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from revstep.commands.errors import MACHINE, report_errors
from revstep.commands.output import out, print_json

if TYPE_CHECKING:
    from revstep.commands.doctor.examine import Report


STYLES = {
    "ok": "green",
    "builds": "green",
    "missing": "yellow",
    "unusable": "yellow",
    "conflict": "bold red",
}


@report_errors
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Report what this machine can run, and what to install for what it can't.

    Exit code 1 where nothing can be sampled or installed packages are in conflict.
    """
    from revstep.commands.doctor.examine import examine

    report = examine()
    if as_json:
        print_json(report.to_dict())
    else:
        typer.echo(f"revstep {report.revstep}, {report.python}, {report.system}")
        typer.echo(
            f"CPU: {report.cpu['name']}, {report.cpu['usable_cores']} usable cores; load() starts "
            f"{report.cpu['threads']} threads"
        )
        typer.echo(f"     {' '.join(report.cpu['features'])}")
        for gpu in report.gpus:
            typer.echo(
                f"GPU: {gpu.name}, {gpu.memory_mib} MiB, compute capability "
                f"{gpu.compute_capability}, driver {gpu.driver}"
            )
        if not report.gpus:
            typer.echo("GPU: none that an NVIDIA driver reports")
        typer.echo("Telemetry, of libraries (revstep has none):")
        for name, state in report.telemetry.items():
            typer.echo(f"     {name}: {state}")
        table = Table(box=None, pad_edge=False)
        for heading in ("part", "state", "what"):
            table.add_column(heading, overflow="fold")
        for check in report.checks:
            table.add_row(check.name, Text(check.status, STYLES[check.status]), check.detail)
        out().print(table)
        for line in _fixes(report):
            typer.echo(line)
        if not report.can_sample:
            typer.echo("\nNothing can be sampled here yet.")
    if not report.healthy:
        raise typer.Exit(MACHINE)


def _fixes(report: Report) -> list[str]:
    """Each fix on a line of its own, to be copied, below the parts that it fixes."""
    parts: dict[str, list[str]] = {}
    for check in report.checks:
        if check.fix is not None:
            parts.setdefault(check.fix, []).append(check.name)
    return [line for fix, names in parts.items() for line in ("", f"{'; '.join(names)}:", fix)]
