"""The reference vectors of a bundle: what a module gives for chosen inputs, and a DDIM-20 run."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.errors import ExportError, ProgramError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.examples import example_arrays
from revstep.export.module.form import Form
from revstep.export.module.run import GivenDenoiser, run_decoder
from revstep.export.parity.edge_rows import edge_rows, usable
from revstep.export.parity.runs import STEPS, ddim_run, forward_rows
from revstep.export.progress import Stages

TIMES = 8
RUNS = 4
SEED = 20


def make_parity(
    module: torch.nn.Module,
    spec: DenoiserSpec,
    stages: Stages | None = None,
    *,
    form: Form | None = None,
    runner: Denoiser | None = None,
) -> dict[str, NDArray[Any]]:
    """The reference vectors of a module in eval mode, run as it is.

    Args:
        module: Of any dtypes, on any device.
        spec: Its spec.
        stages: The progress.
        form: Of the inputs that it takes; None: float32 on the CPU.
        runner: Makes the DDIM-20 run in the module's place.

    Returns:
        ``x`` (8, *shape), ``t`` (8,), ``second`` (8,) where there is such a time,
        ``cond.<name>``, ``out`` (8, *output_shape); the same as ``edge.*`` of rows with a
        condition at an edge, if there are any on which the module gives numbers; and of
        the DDIM-20 run ``ddim20.seed``, ``ddim20.cond.<name>`` and ``ddim20.final`` (4, *shape).

    Raises:
        ExportError: The output holds NaN, or DDIM can't run on this spec.
    """
    denoiser = GivenDenoiser(module, spec, form or Form())
    return vectors_of(denoiser, stages, runner=runner)


def vectors_of(
    denoiser: Denoiser,
    stages: Stages | None = None,
    *,
    runner: Denoiser | None = None,
    what: str = "the module",
    runs_in: str = "PyTorch",
) -> dict[str, NDArray[Any]]:
    """``make_parity`` of any network: ``what``, which ``runs_in`` runs.

    Raises:
        ExportError: As ``make_parity``, and what the network raises.
    """
    spec = denoiser.spec
    stages = stages or Stages(None, 1 + STEPS)
    arrays = example_arrays(spec, TIMES, seed=SEED)
    x, t = arrays["x"], arrays["t"]
    rows = min(RUNS, TIMES)
    for c in spec.conditions:
        arrays[f"ddim20.cond.{c.name}"] = arrays[f"cond.{c.name}"][:rows].copy()
    stages.start(f"reference: {runs_in}")
    arrays["out"] = forward_rows(denoiser, arrays, x, t)
    for row in np.flatnonzero(~np.isfinite(arrays["out"].reshape(TIMES, -1)).all(axis=1)):
        raise ExportError(
            f"{what}'s output holds NaN or infinity at time {t[row]:g}; nothing was exported"
        )
    edges = edge_rows(spec)
    arrays |= usable(edges, lambda rows: forward_rows(denoiser, rows, rows["x"], rows["t"]))
    stages.advance("reference: DDIM-20")
    arrays["ddim20.seed"] = np.array(SEED, dtype=np.uint64)
    try:
        arrays["ddim20.final"] = ddim_run(
            runner or denoiser, arrays, rows, stages, "reference: DDIM-20"
        )
    except ProgramError as error:
        raise ExportError(
            "the spec allows no DDIM run, which parity needs: ", *error.args
        ) from error
    if not np.all(np.isfinite(arrays["ddim20.final"])):
        raise ExportError(
            f"a DDIM-20 run of {what} ended in NaN or infinity; nothing was exported: do the "
            "spec's prediction and schedule match the training?"
        )
    return arrays


def decoder_images(
    decoder: torch.nn.Module,
    spec: DenoiserSpec,
    final: NDArray[np.float32],
    form: Form | None = None,
) -> NDArray[np.float32]:
    """The decoder's images of final states (n, *shape), float32 (n, *decoder shape).

    Raises:
        ExportError: It fails, or they hold NaN or infinity.
    """
    assert spec.decoder is not None
    scaled = final / np.float32(spec.decoder.scale) + np.float32(spec.decoder.shift)
    # one by one: torch 2.13's GroupNorm on a CPU loses three digits of channels-last pictures of
    # 512 x 512, as its convolutions make them where there are two
    out: NDArray[np.float32] = np.concatenate(
        [run_decoder(decoder, row[None], spec, form or Form()).numpy() for row in scaled]
    )
    if not np.all(np.isfinite(out)):
        raise ExportError(
            "the decoder gives NaN or infinity for the end of a DDIM-20 run; nothing was exported: "
            "is the spec's latent scale that of the training?"
        )
    return out
