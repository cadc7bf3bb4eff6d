"""What the command line does with errors: one clear message, no traceback, an exit code."""

from __future__ import annotations

import errno
import functools
import os
import re
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from revstep.engine.errors import (
    BackendError,
    BundleError,
    Cancelled,
    ExportError,
    NonFiniteError,
    ProgramError,
    RevstepError,
)

__all__ = ["CALLER", "INTERRUPTED", "MACHINE", "guarded", "set_debug"]

MACHINE = 1  # a failure of the machine, or of the work itself
CALLER = 2  # the caller's mistake, as for a wrong option
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
MACHINE_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM)

OPTIONS = "backend|batch_size|device|guidance|opset|precision|steps|strength|threads"
VALUE = r"(?:-?\d[\d.]*\d|\d|'[\w-]+')(?=[\s,;:]|$)"  # no path that happens to hold name=value
REWORDED = (
    (r"pass conditions=\{'([^']+)': [^}]*\}", r"give --condition \1=VALUE"),
    (r"pass conditions=\{\.\.\.\}", "give --class or --condition"),
    (r"pass null_conditions=\{\.\.\.\}, or guidance=1", "use --guidance 1"),
    (r"with output=, such as output='?([\w-]+)'?", r"with --module-output, such as \1"),
    (r"(?<!\S)clip=True\b", "--clip"),
)

P = ParamSpec("P")
R = TypeVar("R")

_debug = False


def set_debug(on: bool) -> None:
    """Tracebacks on (``revstep --debug``) or off."""
    global _debug
    _debug = on or os.environ.get("REVSTEP_DEBUG", "") not in ("", "0")


def guarded(command: Callable[P, R]) -> Callable[P, R]:
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
    """2 where the caller can mend it by calling differently, else 1."""
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
    reworded = (BackendError, ExportError, ProgramError, NonFiniteError, ValueError, TypeError)
    if isinstance(error, reworded):
        return _as_options(str(error)) or type(error).__name__
    if isinstance(error, (RevstepError, ImportError)):
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


def _as_options(text: str) -> str:
    """A message of the Python interface in the words of the command line."""
    for pattern, words in REWORDED:
        text = re.sub(pattern, words, text)

    def option(match: re.Match[str]) -> str:
        value = match[2].strip("'")
        return f"--{match[1].replace('_', '-')} {value}"

    return re.sub(rf"(?<!\S)({OPTIONS})=({VALUE})", option, text)
