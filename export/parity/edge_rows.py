"""Rows of conditions as real use has them at its edges: null values, masks all off, large numbers.

Random rows hardly ever have an attention mask that is all off, as guidance with an empty prompt
does, and a graph may agree with its module everywhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.frozen_array import FrozenArray
from revstep.export.module.examples import example_arrays
from revstep.export.parity.check import EDGE

MAX_ROWS = 16
LARGE = 5.0  # standard deviations of the N(0, 1) that conditions are tried with
SEED = 21

Rows = dict[str, NDArray[Any]]

logger = logging.getLogger(__name__)


def edge_rows(spec: DenoiserSpec) -> Rows:
    """``x``, ``t`` and ``cond.<name>`` of up to 16 rows, each with a condition at an edge.

    The first row has every null value there is; the others change one condition of an ordinary row:
    its null value, zeros (a mask all off), the ends of its range, a mask that is on up to its
    middle, and from there on, 5 standard deviations.
    Empty where the spec has no condition.
    """
    conditions = spec.conditions
    nulls: dict[str, object] = {c.name: c.null for c in conditions if c.null is not None}
    changes = [nulls] if len(nulls) > 1 else []  # one alone is among the others
    changes += [{c.name: value} for c in conditions for value in dict.fromkeys(_edges(c))]
    changes = changes[:MAX_ROWS]
    if not changes:
        return {}
    rows: Rows = example_arrays(spec, len(changes), seed=SEED)
    for c in conditions:
        value = rows[f"cond.{c.name}"]
        value[:] = value[0]
        for row, change in enumerate(changes):
            if c.name in change:
                edge = change[c.name]
                value[row] = edge(value[row]) if callable(edge) else np.asarray(edge)
    return rows


def _edges(c: Condition) -> Iterator[object]:
    if c.null is not None:
        yield c.null
    if c.allowed is not None:
        yield from c.allowed
        if c.allowed == (0, 1):
            yield from _halves(c)
        return
    yield 0
    if c.dtype == "bool":
        yield 1
        yield from _halves(c)
    elif c.interface == "float32":
        yield _large


def _halves(c: Condition) -> Iterator[object]:
    """Masks of a padding at the end, of either sense: PyTorch has another way for those."""
    if c.shape and c.shape[-1] > 1:
        first = np.broadcast_to(np.arange(c.shape[-1]) < (c.shape[-1] + 1) // 2, c.shape)
        yield from (FrozenArray(first), FrozenArray(~first))


def _large(value: NDArray[Any]) -> NDArray[Any]:
    return value * LARGE


def usable(rows: Rows, run: Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]) -> Rows:
    """The ``rows`` for which ``run``, the module, gives numbers, as ``edge.*`` with its ``out``."""
    kept: list[int] = []
    outputs = []
    for row in range(len(rows["x"]) if rows else 0):
        one = {name: value[row : row + 1] for name, value in rows.items()}
        try:
            out = run(one)
        except Exception as error:  # a user's module may raise anything
            logger.debug("parity leaves a row out, on which the module fails: %s", error)
            continue
        if np.all(np.isfinite(out)):
            kept.append(row)
            outputs.append(out)
        else:
            logger.debug("parity leaves a row out, for which the module gives no numbers")
    if not kept:
        return {}
    found = {f"{EDGE}{name}": value[kept] for name, value in rows.items()}
    return {**found, f"{EDGE}out": np.concatenate(outputs)}
