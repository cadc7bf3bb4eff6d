"""A cell's engine, and one run of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from revstep.bench.measure.cell import Cell
from revstep.engine.engine import Engine
from revstep.engine.open.bundle import load
from revstep.engine.program.samplers import make_sampler
from revstep.engine.program.trace import Sampler
from revstep.engine.spec.grids import grid_from_value


def open_engine(bundle: Path, cell: Cell) -> Engine:
    """The engine that runs the cell; raises as ``load``."""
    return load(bundle, **cell.load_arguments)


def sampler_of(cell: Cell) -> str | Sampler | None:
    """The cell's sampler, as ``Engine.sample`` takes it.

    Raises:
        ArgumentError: An unknown name or option.
    """
    if not cell.options or cell.sampler is None:
        return cell.sampler
    return make_sampler(cell.sampler, **cell.options)


def sample_cell(
    engine: Engine, cell: Cell, seed: int, conditions: Mapping[str, NDArray[Any]]
) -> NDArray[Any]:
    """One run: the samples, (batch, *shape); raises as ``Engine.sample``."""
    return engine.sample(cell.batch, **asked(cell, conditions), seed=seed).x


def asked(cell: Cell, conditions: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """The cell as arguments of ``Engine.sample``, without a seed."""
    more = dict(cell.more)
    if "grid" in more:
        more["grid"] = grid_from_value(more["grid"])
    return {
        "sampler": sampler_of(cell), "steps": cell.steps, "guidance": cell.guidance,
        "conditions": conditions, "decode": False, **more,
    }  # fmt: skip
