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
from revstep.engine.runtime.watch import Timing


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
    engine: Engine,
    cell: Cell,
    seed: int,
    conditions: Mapping[str, NDArray[Any]],
    timing: Timing | None = None,
) -> NDArray[Any]:
    """One run: the samples, (batch, *shape); raises as ``Engine.sample``."""
    drawn = engine.sample(
        cell.batch, sampler=sampler_of(cell), steps=cell.steps, seed=seed, guidance=cell.guidance,
        conditions=conditions, decode=False, timing=timing,
    )  # fmt: skip
    return drawn.x
