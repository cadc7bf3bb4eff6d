"""Whether cells can run, by the bundle's spec alone: before anything is opened or timed."""

from __future__ import annotations

from collections.abc import Sequence

from revstep.bench.example import example_values
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.engines import asked
from revstep.engine.backends.registry import NAMES
from revstep.engine.checks import check_one_of
from revstep.engine.program.table import build_program
from revstep.engine.runtime.batch import samples_per_batch
from revstep.engine.runtime.request import Request
from revstep.engine.runtime.resolve import batch_of, program_arguments, with_sampler
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.precisions import PRECISIONS


def check_cells(spec: DenoiserSpec, cells: Sequence[Cell]) -> None:
    """Checks the cells' names, traces their samplers and checks their values.

    Raises:
        ArgumentError, ProgramError: As ``Engine.sample``, of the first that can't run.
        ValueError: An unknown backend or precision.
    """
    encoded = any(encoder.nullable for encoder in spec.encoders)  # null values, when it is loaded
    for cell in cells:
        check_one_of(cell.backend, "backend", NAMES)
        if cell.precision is not None:
            check_one_of(cell.precision, "precision", PRECISIONS)
        values = example_values(spec.conditions, cell.batch)
        request = Request.of(cell.batch, **asked(cell, values), seed=0)
        build_program(spec, **program_arguments(spec, with_sampler(spec, request)))
        if not encoded:
            samples_per_batch(spec, batch_of(spec, request), None, None)
