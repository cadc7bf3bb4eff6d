"""``revstep bench BUNDLE``, and the commands below ``bench``."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from revstep.commands.bench.compare import compare
from revstep.commands.bench.report import report
from revstep.commands.bench.run import run
from revstep.commands.bench.serve import serve

RUN = "run"


class BundleOrCommand(TyperGroup):
    """A group whose first argument, where it names no command, is ``run``'s bundle."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts ``run`` before what is no command's name, nor the group's own help."""
        if args and args[0] not in self.commands and args != ["--help"]:
            args = [RUN, *args]
        return super().parse_args(ctx, args)


bench = typer.Typer(
    name="bench",
    cls=BundleOrCommand,
    no_args_is_help=True,
    help="Measure latency. `revstep bench BUNDLE` is `revstep bench run BUNDLE`; a bundle that is "
    "called as a command here is written ./serve.",
    epilog="Example: revstep bench my.revstep --batch 1,16 --steps 20 --json > latency.json",
)
COMMANDS = (
    (run, RUN, "revstep bench my.revstep --batch 1,16 --steps 10,20 --output rows.jsonl"),
    (serve, "serve", "revstep bench serve http://127.0.0.1:8000 --p99 200ms --output rows.jsonl"),
    (compare, "compare", "revstep bench compare before.jsonl after.jsonl --fail-on-slower"),
    (report, "report", "revstep bench report rows.jsonl --output report.html --png plots"),
)
for _function, _name, _example in COMMANDS:
    bench.command(_name, epilog=f"Example: {_example}", no_args_is_help=True)(_function)
