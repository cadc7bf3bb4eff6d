"""Conditions to measure with: valid values of a spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.engine import Engine
from revstep.engine.spec.parts import Condition


def example_conditions(engine: Engine, batch: int) -> dict[str, NDArray[Any]]:
    """Valid conditions for ``batch`` samples: whole numbers in turn (without the null), else 0."""
    return example_values(engine.spec.conditions, batch)


def example_values(conditions: Sequence[Condition], batch: int) -> dict[str, NDArray[Any]]:
    """The same of a spec's conditions."""
    found: dict[str, NDArray[Any]] = {}
    for c in conditions:
        array = np.zeros((batch, *c.shape), c.interface)
        if c.allowed is not None:
            low, high = c.allowed
            low = min(max(0, low), high)
            first = range(low, min(high, low + batch) + 1)  # limits may be far apart
            classes = [i for i in first if i != c.null] or [low]
            cycle: Sequence[int] = [classes[i % len(classes)] for i in range(batch)]
            array += np.reshape(cycle, (batch, *(1 for _ in c.shape)))
        found[c.name] = array
    return found
