"""That a network's rows stand alone, in every batch that the bundle takes."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.errors import BackendError, ExportError, RevstepError
from revstep.engine.spec.denoiser import Condition
from revstep.export.module.checks import ROW_TOLERANCE
from revstep.export.module.examples import Arrays, example_inputs
from revstep.export.module.run import example_hint
from revstep.export.parity.bounds import root_mean_square

MAX_ELEMENTS = 1 << 16  # of the states of one call: activations are hundreds of times as large
FEW = 3

logger = logging.getLogger(__name__)


def check_rows(denoiser: Denoiser, what: str) -> None:
    """Runs a network at several batches: numbers, the same ones again, and rows alone.

    Raises:
        ExportError: It fails, or rows depend on each other or on the batch.
    """
    spec = denoiser.spec
    low, high = spec.batch
    first = min(max(FEW, low), high)
    inputs, others = (example_inputs(spec, first, seed=seed) for seed in (0, 1))
    out = _run(denoiser, inputs, what)
    if not np.all(np.isfinite(out)):
        raise ExportError(
            f"{what}'s output holds NaN or infinity for finite inputs; nothing was exported"
            f"{example_hint(spec)}"
        )
    if not np.array_equal(out, _run(denoiser, inputs, what)):
        raise ExportError(
            f"{what} gives two different outputs for the same inputs; a denoiser uses no random "
            "numbers: is it a file of training mode, with dropout in it?"
        )
    for kept in (0, first - 1) if first > 1 else ():
        mixed = tuple(b.copy() for b in others)
        for own, other in zip(inputs, mixed, strict=True):
            other[kept] = own[kept]
        got = _run(denoiser, mixed, what)[kept : kept + 1]
        _compare(out[kept : kept + 1], got, what, "with the rows beside it")
    many = min(high, max(MAX_ELEMENTS // spec.elements, 1))
    for rows in sorted({low, 1, 2, many} - {first}):
        if low <= rows <= high:
            chosen = tuple(i[np.arange(rows) % first] for i in inputs)
            _compare(out[:rows], _run(denoiser, chosen, what), what, f"in a batch of {rows}")


def takes(denoiser: Denoiser, c: Condition, element: int | None, value: int) -> bool:
    """Whether a network takes a value in an element of a condition, in all where it is None.

    A graph counts negative indices from a table's end, where what it was made of may have failed:
    those are refused, unless the condition's null value or its example is one.
    """
    known = [np.min(np.asarray(v)) for v in (c.null, c.example) if v is not None]
    if value < min([0, *known]):
        return False
    spec = denoiser.spec
    inputs = example_inputs(spec, max(2, spec.batch[0]))
    inputs = tuple(i[: spec.batch[0]] for i in inputs)
    place = spec.input_names.index(c.name)
    inputs[place][:1].reshape(-1)[slice(None) if element is None else element] = value
    try:
        _run(denoiser, inputs, "")
    except RevstepError as error:
        logger.debug("the condition %s does not take %d: %s", c.name, value, error)
        return False
    return True


def _run(denoiser: Denoiser, inputs: Arrays, what: str) -> NDArray[np.float32]:
    spec = denoiser.spec
    buffers = NetworkBuffers.allocate(spec, len(inputs[0]))
    call = denoiser.bind(buffers)
    for buffer, value in zip(buffers.inputs(spec).values(), inputs, strict=True):
        buffer[:] = value
    try:
        call()
    except BackendError as error:
        raise ExportError(f"{what}: {error}") from error
    except ExportError as error:
        raise ExportError(
            *error.args,
            f". If it takes fewer rows than {spec.batch[1]} a call, say batch = [1, "
            f"{max(spec.batch[0], 1)}] in the spec{example_hint(spec)}",
        ) from error
    return np.array(buffers.out)


def _compare(want: NDArray[np.float32], got: NDArray[np.float32], what: str, where: str) -> None:
    scale = max(root_mean_square(want), 1e-12)
    change = float(np.abs(got[: len(want)] - want).max()) / scale
    if not change <= ROW_TOLERANCE:
        raise ExportError(
            f"{what} gives a row another output {where} (by {change:.2g} of its RMS), and samples "
            "share network calls. Does it normalise or attend over the batch, or was its batch "
            "fixed when it was written? batch = [1, 1] in the spec runs one row a call"
        )
