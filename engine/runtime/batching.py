"""A request cut into batches: as many samples as a network call takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_whole
from revstep.engine.errors import ArgumentError
from revstep.engine.message import Argument, Message
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.runtime import Runtime
from revstep.engine.runtime.timing import Timing
from revstep.engine.runtime.watch import BatchWatcher, Watch
from revstep.engine.spec.denoiser import DenoiserSpec

__all__ = ["run_batches", "samples_per_batch"]


def samples_per_batch(
    spec: DenoiserSpec, batch: Batch, asked: int | None, fixed_rows: int | None
) -> int:
    """Samples per batch: a guided sample takes two network rows.

    Args:
        spec: The denoiser's spec.
        batch: What is drawn.
        asked: The caller's ``batch_size``; None fills the batch range.
        fixed_rows: Rows of every network call, where they are fixed.

    Raises:
        TypeError: ``asked`` is no whole number.
        ValueError: More than the denoiser takes.
    """
    rows = 2 if len(batch.guided) else 1
    most = (fixed_rows or spec.batch[1]) // rows
    if most < 1:
        raise ArgumentError(
            Message(
                "guidance needs 2 network rows per sample; this denoiser takes "
                f"{spec.batch[1]}: export it with a larger batch range, or use ",
                Argument("guidance", 1),
            ),
            "guidance",
        )
    if asked is None:
        return most
    more = (
        f" with {rows} network row(s) per sample on this engine; export with a larger batch range "
        "for more"
    )
    return check_whole(asked, "batch_size", 1, most, numpy=True, more=more)


def run_batches(
    runtime: Runtime,
    program: StepProgram,
    batch: Batch,
    size: int,
    fixed_rows: int | None,
    *,
    watch: Watch,
    timing: Timing | None = None,
) -> NDArray[np.float32]:
    """The final states (n, *shape) of a request, ``size`` samples at a time.

    Args:
        runtime: Where the batches run.
        program: The program of all samples.
        batch: The samples.
        size: Samples per batch.
        fixed_rows: Rows of every network call, where they are fixed.
        watch: Who wants to know of the steps.
        timing: Filled with the times in and outside the network.
    """
    spec, steps = runtime.spec, program.length
    starts = range(0, batch.n, size)
    parts = []
    for number, first in enumerate(starts):
        part = batch.part(first, min(first + size, batch.n))
        watcher = BatchWatcher(watch, spec.shape, first, steps, number * steps, len(starts) * steps)
        x = runtime.run(
            program,
            part,
            fixed_rows or max(part.rows, spec.batch[0]),
            watcher=watcher,
            timing=timing,
        )
        parts.append(x.reshape(-1, *spec.shape))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
