"""A request cut into batches: as many samples as a network call takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.request import Request
from revstep.engine.runtime.runner import Runner
from revstep.engine.runtime.timing import Timing
from revstep.engine.runtime.watch import Observer, Watch
from revstep.engine.spec.denoiser import DenoiserSpec

__all__ = ["run_batches", "samples_a_batch"]


def samples_a_batch(
    spec: DenoiserSpec, request: Request, asked: int | None, fixed_rows: int | None
) -> int:
    """Samples a batch: a guided sample takes two network rows.

    Args:
        spec: The denoiser's spec.
        request: What is drawn.
        asked: The caller's ``batch_size``; None fills the batch range.
        fixed_rows: Rows of every network call, where they are fixed.

    Raises:
        TypeError: ``asked`` is no whole number.
        ValueError: More than the denoiser takes.
    """
    rows = 2 if len(request.batch.guided) else 1
    most = (fixed_rows or spec.batch[1]) // rows
    if most < 1:
        raise ValueError(
            "guidance needs 2 network rows a sample; this denoiser takes "
            f"{spec.batch[1]}: export it with a larger batch range, or use guidance=1"
        )
    if asked is None:
        return most
    if isinstance(asked, bool) or not isinstance(asked, (int, np.integer)):
        raise TypeError(f"batch_size must be a whole number; got {asked!r}")
    if not 1 <= asked <= most:
        raise ValueError(
            f"batch_size={asked} is out of range; with {rows} network row(s) a sample this "
            f"engine takes 1 to {most}: export with a larger batch range for more"
        )
    return int(asked)


def run_batches(
    runner: Runner,
    program: StepProgram,
    request: Request,
    size: int,
    fixed_rows: int | None,
    *,
    watch: Watch,
    timing: Timing | None = None,
) -> NDArray[np.float32]:
    """The final states (n, *shape) of a request, ``size`` samples at a time.

    Args:
        runner: Where the batches run.
        program: The program of all samples.
        request: The samples.
        size: Samples a batch.
        fixed_rows: Rows of every network call, where they are fixed.
        watch: Who wants to know of the steps.
        timing: Filled with the times in and outside the network.
    """
    spec, steps = runner.spec, program.length
    starts = range(0, request.n, size)
    out = np.empty((request.n, *spec.shape), dtype=np.float32)
    for number, first in enumerate(starts):
        batch = request.part(first, min(first + size, request.n))
        observe = Observer(watch, spec.shape, first, steps, number * steps, len(starts) * steps)
        x = runner.run(
            program,
            batch,
            fixed_rows or max(batch.rows, spec.batch[0]),
            observe=observe,
            want_x0=watch.wants_x0,
            timing=timing,
        )
        out[first : first + len(x)] = x.reshape(-1, *spec.shape)
    return out
