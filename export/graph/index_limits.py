"""Which values of integer conditions a module takes: what a graph reads in silence, or fails on.

ONNX's Gather counts negative indices from the end and leaves too large ones to the runtime, where
the module raises an error. So the graph names the tables, the module says where its errors begin,
and the bundle's spec keeps that as ``Condition.limits``.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.export.graph.index_tables import Table, index_tables
from revstep.export.module.examples import example_inputs
from revstep.export.module.run import run_module

Takes = Callable[[Condition, int | None, int], bool]
"""Whether a network takes a value in an element of a condition, in all where it is None."""

FEW = 8  # elements that are tried one by one, where each may have a table of its own


def check_limits(module: torch.nn.Module, spec: DenoiserSpec) -> None:
    """Checks that the module takes the ends of the ranges that the spec allows, in some element.

    Raises:
        ExportError: It fails on one.
    """
    for c in spec.conditions:
        for value in dict.fromkeys(c.allowed or ()):
            if any(_takes(module, spec, c, element, value) for element in _elements(c)):
                continue
            try:
                _run(module, spec, c, value)
            except ExportError as error:
                said = f"classes={c.classes}" if c.classes is not None else f"limits={c.limits}"
                raise ExportError(
                    f"the spec's condition {c.name!r} allows {value} ({said}), and with it the "
                    f"module fails; fix the spec: ",
                    *error.args,
                ) from error


def with_limits(module: torch.nn.Module, spec: DenoiserSpec, graph: Path) -> DenoiserSpec:
    """The spec, with limits where the module fails outside them and the spec has none.

    The module is on a CPU: on a GPU an index out of range ends the process's use of it.
    """
    return limited(spec, graph, functools.partial(_takes, module, spec))


def limited(spec: DenoiserSpec, graph: Path, takes: Takes) -> DenoiserSpec:
    """``with_limits`` of any network that a graph is of."""
    names = {c.name for c in spec.conditions if "int" in c.dtype and c.allowed is None}
    if not names:
        return spec
    tables = index_tables(graph, names)
    conditions = tuple(
        c if c.name not in names else _limited(takes, c, tables[c.name]) for c in spec.conditions
    )
    return dataclasses.replace(spec, conditions=conditions)


def _limited(takes: Takes, c: Condition, tables: list[Table]) -> Condition:
    """The condition with the range outside which the module fails, whatever the element."""
    whole = [table for table in tables if table.whole]
    count = math.prod(c.shape)
    if not tables or (not whole and count > FEW):
        return c
    elements: list[int | None] = [None] if whole else list(range(count))
    found = [_ends(functools.partial(takes, c, element), whole or tables) for element in elements]
    ends = np.iinfo(c.interface)
    low, high = min(f[0] for f in found), max(f[1] for f in found)
    if (low, high) == (-math.inf, math.inf):
        return c
    limits = (int(max(low, ends.min)), int(min(high, ends.max)))
    try:
        return dataclasses.replace(c, limits=limits)
    except ValueError as error:
        raise ExportError(f"the module takes {limits[0]} to {limits[1]}: {error}") from error


def _elements(c: Condition) -> list[int | None]:
    """All elements at once, and then each of a few."""
    count = math.prod(c.shape)
    return [None, *range(count if 1 < count <= FEW else 0)]


def _ends(takes: Callable[[int], bool], tables: list[Table]) -> tuple[float, float]:
    """The range that ``takes`` takes, as far as tables end where it does; infinite elsewhere."""
    takes = functools.cache(takes)
    low, high = -math.inf, math.inf
    for table in tables:
        first, last = -table.shift, table.size - 1 - table.shift
        if takes(last) and not takes(last + 1):
            high = min(high, last)
        for start in (first, first - table.size):  # counted from the end, where the module does
            if takes(start) and not takes(start - 1):
                low = max(low, start)
                break
    return low, high


def _takes(
    module: torch.nn.Module, spec: DenoiserSpec, c: Condition, element: int | None, value: int
) -> bool:
    try:
        _run(module, spec, c, value, element)
    except ExportError:
        return False
    return True


def _run(
    module: torch.nn.Module,
    spec: DenoiserSpec,
    c: Condition,
    value: int,
    element: int | None = None,
) -> None:
    """Runs one row with that value in a condition, in one of its elements or in all."""
    inputs = list(example_inputs(spec, 2))
    place = spec.input_names.index(c.name)
    inputs[place][:1].reshape(-1)[slice(None) if element is None else element] = value
    run_module(module, tuple(i[:1] for i in inputs), spec)
