"""The command line, ``revstep``; ``revstep.commands.errors`` has the exit codes."""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from revstep import __version__
from revstep.commands.bench.group import bench
from revstep.commands.compile import compile_
from revstep.commands.demo import demo
from revstep.commands.deploy import deploy
from revstep.commands.doctor.command import doctor
from revstep.commands.errors import INTERRUPTED, set_debug
from revstep.commands.export import export
from revstep.commands.generate import generate
from revstep.commands.info import info
from revstep.commands.inspect import inspect
from revstep.commands.sample import sample
from revstep.commands.serve import serve

app = typer.Typer(
    name="revstep",
    help="Sample trained diffusion denoisers fast: export, compile, sample, measure.",
    epilog="Example: revstep export --diffusers DIR -o x.revstep && revstep compile x.revstep "
    "&& revstep sample x.revstep -n 16 --grid -o grid.png",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

EXAMPLES = (
    (export, "export", "revstep export my_model:build -o my.revstep --precision fp32,fp16"),
    (
        compile_,
        "compile",
        "revstep compile my.revstep; or: revstep compile my.revstep --target tensorrt "
        "--target tensorrt_rtx --precision fp16 --batch 1,8,64 --gpu sm_89 --keep-going",
    ),
    (info, "info", "revstep info my.revstep"),
    (inspect, "inspect", "revstep inspect model.onnx --write spec.toml"),
    (
        sample,
        "sample",
        "revstep sample my.revstep --class 0-9 -n 100 --guidance 1.5 --seed 0 --grid -o grid.png",
    ),
    (
        generate,
        "generate",
        "revstep generate my.revstep -n 100000 --class 0-9 --guidance 1.5 --seed 0 -o samples",
    ),
    (serve, "serve", "revstep serve my.revstep --port 8000 --token-file token.txt"),
    (deploy, "deploy", "revstep deploy my.revstep --triton models"),
    (doctor, "doctor", "revstep doctor"),
    (demo, "demo", "revstep demo --output demo-output"),
)
for _function, _name, _example in EXAMPLES:
    app.command(_name, epilog=f"Example: {_example}", no_args_is_help=False)(_function)
app.add_typer(bench)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"revstep {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (also REVSTEP_DEBUG=1).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    del version
    set_debug(debug)


def main() -> None:
    """Runs the command line and exits."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("revstep").addHandler(handler)
    try:
        app()
    except KeyboardInterrupt:  # outside a command's own handler
        sys.exit(INTERRUPTED)
