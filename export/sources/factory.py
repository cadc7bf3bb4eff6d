"""A user's own factory, ``package.module:factory``, which returns a module and its spec."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import traceback
from importlib import import_module
from typing import TYPE_CHECKING

from revstep.engine.errors import ExportError
from revstep.engine.nearest import nearest
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.sources.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch


NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
DEBUG = "run with revstep --debug for the traceback"
RETURNS = "a factory returns (module, spec), (module, spec, decoder) or a Checkpoint"


def load_factory(name: str) -> tuple[torch.nn.Module, DenoiserSpec, torch.nn.Module | None]:
    """The (module, spec, decoder or None) of the factory ``package.module:factory``.

    Raises:
        ValueError, ExportError: As ``load_checkpoint``.
    """
    found = load_checkpoint(name)
    return found.module, found.spec, found.decoder


def load_checkpoint(name: str) -> Checkpoint:
    """What the factory ``package.module:factory`` returns.

    The current directory is put on ``sys.path``, as ``python -m`` does.

    Raises:
        ValueError: The name is not of that form.
        ExportError: The import or the factory failed, or it returned something else.
    """
    if not NAME.fullmatch(name):
        raise ValueError(
            f"a factory is named package.module:function; got {name!r} "
            "(for a file my_model.py with a function build: my_model:build)"
        )
    module_name, _, attributes = name.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = import_module(module_name)
    except Exception as error:  # a user's file may raise anything while it is imported
        raise ExportError(
            f"importing {module_name!r} failed: {type(error).__name__}: {error}"
            f"{_where(error) or f'; it is looked for in {here} and in the installed packages'}"
        ) from error
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            near = nearest(attribute, dir(found))
            hint = "" if near is None else f"; did you mean {near!r}?"
            raise ExportError(f"{module_name} has no {attributes!r}{hint}")
        found = getattr(found, attribute)
    if not callable(found):
        raise ExportError(f"{name} is {type(found).__name__}, not a function; {RETURNS}")
    try:
        result = found()
    except Exception as error:  # the same for the user's function
        raise ExportError(
            f"{name}() failed: {type(error).__name__}: {error}{_where(error)}"
        ) from error
    return _checked(name, result)


def _where(error: Exception) -> str:
    """`` (file:line; ...)`` of the innermost frame of the user's code; "" where there is none."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f" ({error.filename}:{error.lineno}; {DEBUG})"
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in ("importlib", "revstep")
        and not frame.f_code.co_filename.startswith("<frozen")
    ]
    libraries = tuple(sysconfig.get_paths()[n] for n in ("stdlib", "purelib", "platlib"))
    own = [f for f in frames if not f[0].startswith(libraries)]
    for file, line in (own or frames)[-1:]:
        return f" ({file}:{line}; {DEBUG})"
    return ""


def _checked(name: str, result: object) -> Checkpoint:
    import torch

    if isinstance(result, Checkpoint):
        return result
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        found = f"a tuple of {len(result)}" if isinstance(result, tuple) else type(result).__name__
        raise ExportError(f"{name}() returned {found}; {RETURNS}")
    module, spec, decoder = (*result, None)[:3]
    kinds = {"module": torch.nn.Module, "spec": DenoiserSpec, "decoder": torch.nn.Module | None}
    for (part, kind), value in zip(kinds.items(), (module, spec, decoder), strict=True):
        if not isinstance(value, kind):
            expected = "a DenoiserSpec" if part == "spec" else "a torch.nn.Module"
            raise ExportError(
                f"{name}() returned {type(value).__name__} as the {part}, expected {expected}; "
                f"{RETURNS}"
            )
    return Checkpoint(module=module, spec=spec, decoder=decoder)
