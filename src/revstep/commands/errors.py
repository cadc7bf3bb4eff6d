"""What the command line does with errors: one clear message, no traceback, an exit code."""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import typer

from revstep.engine.errors import BundleError, Cancelled, ExportError, ProgramError, RevstepError
from revstep.engine.message import Argument, Message

MACHINE = 1  # a failure of the machine, or of the work itself
CALLER = 2  # the caller's mistake, as for a wrong option
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
MACHINE_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM)

OPTIONS = {
    name: "--" + name.replace("_", "-") for name in
    ("backend", "batch_size", "clip", "compat", "device", "guidance", "instances", "known", "mask",
     "max_queue", "max_samples", "max_steps", "memory_limit", "negative_prompt", "null_class",
     "opset", "optimization_level", "precision", "prompt", "seconds", "seed", "sequence_length",
     "size", "slots", "start", "steps", "strength", "threads")
} | {
    "n": "-n", "grid": "--time-grid", "output": "--module-output",
    "conditions": "--class or --condition", "inputs": "--input", "gpus": "--gpu",
    "batch": "--batch or --dynamic", "bounds": "--forward-bound or --run-bound",
}  # fmt: skip

P = ParamSpec("P")
R = TypeVar("R")

_debug = False


def set_debug(on: bool) -> None:
    """Tracebacks on (``revstep --debug``) or off."""
    global _debug
    _debug = on or os.environ.get("REVSTEP_DEBUG", "") not in ("", "0")


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """The command, with errors turned into a message on stderr and an exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except (KeyboardInterrupt, Cancelled):
            typer.echo("interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # `revstep info x | head`: the reader has what it wants
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(MACHINE) from None
        except Exception as error:  # the outermost frame: nothing above could handle it
            if _debug:
                raise
            typer.echo(f"error: {describe(error)}", err=True)
            raise typer.Exit(exit_code(error)) from None

    return run


def exit_code(error: BaseException) -> int:
    """2 where calling differently fixes it, else 1."""
    if isinstance(error, ExportError):
        # A module that can't be exported is the caller's; a full disk on the way is not.
        cause = error.__cause__
        full = isinstance(cause, OSError) and cause.errno in MACHINE_ERRNO
        return MACHINE if full or isinstance(cause, MemoryError) else CALLER
    if isinstance(error, (BundleError, ProgramError)):
        return CALLER
    if isinstance(error, RevstepError):
        return MACHINE
    caller = (
        *(ValueError, TypeError, FileNotFoundError, FileExistsError),
        *(IsADirectoryError, NotADirectoryError, PermissionError),
    )
    return CALLER if isinstance(error, caller) else MACHINE


def describe(error: BaseException) -> str:
    """One message for a person."""
    if isinstance(error, ImportError) and error.name and not isinstance(error, RevstepError):
        from revstep.commands.extras import extra_of

        extra = extra_of(error.name)
        if extra is not None:
            return f"{error.name} is not installed; pip install 'revstep[{extra}]'"
    if error.args and isinstance(error.args[0], Message):
        return error.args[0].spelled(option) or type(error).__name__
    if isinstance(error, (ValueError, TypeError, ImportError)):
        return str(error) or type(error).__name__
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}" if str(error) else "out of memory"
    return (
        f"{type(error).__name__}: {error}\n"
        "This is unexpected; run with `revstep --debug ...` for the traceback."
    )


def option(argument: Argument) -> str:
    """An argument of the Python interface as the command line's option: ``--steps 5``."""
    name, value = argument
    if name == "conditions" and isinstance(value, Mapping) and value:
        return " ".join(f"--condition {key}=VALUE" for key in value)
    if name == "inputs" and isinstance(value, Mapping) and value:
        return " ".join(f"--input {key}=VALUE" for key in value)
    if name not in OPTIONS:
        return str(argument)
    shown = value is not ... and value is not True and not isinstance(value, Mapping)
    return f"{OPTIONS[name]} {value}" if shown else OPTIONS[name]
