"""The one tensor of what a module returns: a tensor, tuple, dict, dataclass or library's output."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch

from revstep.engine.checks import wrong_type
from revstep.engine.errors import BackendError
from revstep.engine.message import Argument

SHOWN = 8  # outputs that a message lists
DEPTH = 4  # of containers in containers


class OutputError(BackendError):
    """A module that returned no tensor, or several of which none is named."""


def check_output(output: object) -> str | int | None:
    """The choice of an output: a name, an index, or None.

    Raises:
        TypeError: Something else.
    """
    if isinstance(output, bool) or not isinstance(output, str | int | None):
        allowed = "the name of one of the module's outputs, such as 'sample', or its index"
        raise wrong_type(output, "output", allowed)
    return output


def picked(result: object, output: str | int | None) -> torch.Tensor:
    """The tensor that ``output`` names; with None, the only one there is.

    Args:
        result: What the module returned.
        output: A key, field or attribute, or an index; it may name a container of one tensor.

    Raises:
        OutputError: There is no such tensor, or several and none is named.
    """
    if isinstance(result, torch.Tensor) and output is None:
        return result
    found = _tensors(result if output is None else _chosen(result, output))
    if len(found) == 1:
        return found[0]
    returned = f"the module returned {_described(result)}"
    if output is not None:
        raise OutputError(f"{returned}, where {output!r} holds {len(found)} tensors, expected one")
    if not found:
        raise OutputError(f"{returned}, expected one tensor; wrap it in a module that returns one")
    raise OutputError(
        f"{returned}, expected one tensor; name the one to take, such as ",
        Argument("output", next(iter(_entries(result)))),
    )


def _entries(value: object) -> dict[str | int, object]:
    """What a container holds, by key, field, attribute or index; {} of anything else."""
    if isinstance(value, Mapping):
        return {k: v for k, v in value.items() if isinstance(k, str | int)}
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        names = getattr(value, "_fields", range(len(value)))  # a named tuple's
        return dict(zip(names, value, strict=True))
    return dict(getattr(value, "__dict__", {}))


def _chosen(result: object, output: str | int) -> object:
    if isinstance(result, torch.Tensor):
        raise OutputError(
            f"the module returned one tensor, so there is no output {output!r}; leave output out"
        )
    entries = _entries(result)
    if output in entries:
        return entries[output]
    if isinstance(output, str) and hasattr(result, output):
        return getattr(result, output)
    if isinstance(output, int) and -len(entries) <= output < len(entries):
        return list(entries.values())[output]
    raise OutputError(f"the module returned {_described(result)}; there is no output {output!r}")


def _tensors(value: object, depth: int = DEPTH) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if depth == 0 or isinstance(value, torch.nn.Module):
        return []
    return [t for entry in _entries(value).values() for t in _tensors(entry, depth - 1)]


def _described(result: object) -> str:
    """``tuple with 0 (float32 (2, 4)), 1 (NoneType)``."""
    entries = _entries(result)
    if not entries:
        return f"{type(result).__name__} without outputs"
    listed = [f"{name!r} ({_kind(value)})" for name, value in list(entries.items())[:SHOWN]] + [
        "..."
    ] * (len(entries) > SHOWN)
    return f"{type(result).__name__} with {', '.join(listed)}"


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__
