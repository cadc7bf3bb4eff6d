"""The parity check: a compiled network against the PyTorch module that it came from.

``make_parity`` runs the module at 8 times, on rows of conditions at their edges, and through a
whole DDIM-20 run (eta 0, guidance 1); ``check_parity`` runs another denoiser on the same inputs,
and ``check_decoder_parity`` the decoder on the final state. Errors are relative to the RMS of the
reference: the largest absolute error of one forward pass, the RMS error of the final state. Each
edge row stands alone, with ten times the bound: it finds what is wrong in kind, not rounding. Where
its output is nearly nothing, what one forward pass is allowed holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.errors import ExportError, NonFiniteError, ParityError, ProgramError
from revstep.engine.program.table import build_program
from revstep.engine.runtime.loop import Batch, run_batch
from revstep.engine.runtime.pool import Workspace
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.parity.bounds import BOUNDS, Bounds, resolve_bounds, wider
from revstep.export.progress import Stages

if TYPE_CHECKING:
    import torch

    from revstep.export.module.given import Form

__all__ = [
    "BOUNDS",
    "Bounds",
    "check_decoder_parity",
    "check_forward",
    "check_parity",
    "finding",
    "forward_error",
    "forward_rows",
    "make_parity",
    "relative_error",
    "resolve_bounds",
    "wider",
]

EDGE = "edge."
EDGE_FACTOR = 10.0  # of the forward bound: large conditions amplify rounding
EDGES = (
    "one forward pass of a condition at an edge (null, zeros, a mask all off, on or half on, large)"
)
TIMES = 8
RUNS = 4
STEPS = 20
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
        stages: Told of the progress.
        form: Of the inputs that it takes; None: float32 on the CPU.
        runner: Makes the DDIM-20 run in the module's place.

    Returns:
        ``x`` (8, *shape), ``t`` (8,), ``cond.<name>``, ``out`` (8, *output_shape); the same as
        ``edge.*`` of rows with a condition at an edge, if there are any on which the module gives
        numbers; and of the DDIM-20 run ``ddim20.seed``, ``ddim20.cond.<name>`` and
        ``ddim20.final`` (4, *shape).

    Raises:
        ExportError: The output holds NaN, or DDIM can't run on this spec.
    """
    from revstep.export.module.checks import example_inputs
    from revstep.export.module.given import Form, GivenDenoiser
    from revstep.export.parity.edge_rows import edge_rows, usable

    stages = stages or Stages(None, 1 + STEPS)
    denoiser = GivenDenoiser(module, spec, form or Form())
    x, t, *conditions = example_inputs(spec, TIMES, seed=SEED)
    arrays: dict[str, NDArray[Any]] = {"x": x, "t": t}
    rows = min(RUNS, TIMES)
    for c, value in zip(spec.conditions, conditions, strict=True):
        arrays[f"cond.{c.name}"] = value
        arrays[f"ddim20.cond.{c.name}"] = value[:rows].copy()
    stages.start("reference: PyTorch")
    arrays["out"] = forward_rows(denoiser, arrays, x, t)
    for row in np.flatnonzero(~np.isfinite(arrays["out"].reshape(TIMES, -1)).all(axis=1)):
        raise ExportError(
            f"the module's output holds NaN or infinity at time {t[row]:g}; nothing was exported"
        )
    edges = edge_rows(spec)
    arrays |= usable(edges, lambda rows: forward_rows(denoiser, rows, rows["x"], rows["t"]))
    stages.advance("reference: DDIM-20")
    arrays["ddim20.seed"] = np.array(SEED, dtype=np.uint64)
    try:
        arrays["ddim20.final"] = _ddim(
            runner or denoiser, arrays, rows, stages, "reference: DDIM-20"
        )
    except ProgramError as error:
        raise ExportError(f"the spec allows no DDIM run, which parity needs: {error}") from error
    if not np.all(np.isfinite(arrays["ddim20.final"])):
        raise ExportError(
            "a DDIM-20 run of the module ended in NaN or infinity; nothing was exported: do the "
            "spec's prediction and schedule match the training?"
        )
    return arrays


def check_parity(
    denoiser: Denoiser,
    parity: Mapping[str, NDArray[Any]],
    precision: str,
    bounds: Bounds | Mapping[str, float] | None = None,
    stages: Stages | None = None,
) -> dict[str, Any]:
    """The errors of ``denoiser`` against the reference, with their bounds.

    Returns:
        ``{"forward": {"error": ..., "bound": ...}, "ddim20": {...}}``, and ``edges`` likewise
        where the reference has such rows.

    Raises:
        ParityError: NaN, infinity, or an error above its bound.
    """
    limit = resolve_bounds(precision, bounds)
    stages = stages or Stages(None, 1 + STEPS)
    what = f"parity: {precision}"
    stages.start(what)
    figures = check_forward(denoiser, parity, limit)
    stages.advance(what)
    final = _ddim(denoiser, parity, len(parity["ddim20.final"]), stages, what)
    error = relative_error(final, parity["ddim20.final"], rms=True)
    return {**figures, "ddim20": _within("a DDIM-20 run", error, limit.ddim20)}


def check_forward(
    denoiser: Denoiser, parity: Mapping[str, NDArray[Any]], limit: Bounds
) -> dict[str, dict[str, float]]:
    """The errors of single network calls, with their bounds: ``forward``, and ``edges`` if any.

    Raises:
        ParityError: NaN, infinity, or an error above its bound.
    """
    out = forward_rows(denoiser, parity, parity["x"], parity["t"])
    error = forward_error(out, parity["out"])
    figures = {"forward": _within("one forward pass", error, limit.forward)}
    if f"{EDGE}x" in parity:
        rows = {name.removeprefix(EDGE): v for name, v in parity.items() if name.startswith(EDGE)}
        out = forward_rows(denoiser, rows, rows["x"], rows["t"])
        least = _rms(parity["out"]) / EDGE_FACTOR  # less is a difference of ordinary values
        error = max(
            relative_error(got, want, scale=max(_rms(want), least) or 1.0)
            for got, want in zip(out, rows["out"], strict=True)
        )
        figures["edges"] = _within(EDGES, error, EDGE_FACTOR * limit.forward)
    return figures


def decoder_parity(
    decoder: torch.nn.Module,
    spec: DenoiserSpec,
    final: NDArray[np.float32],
    form: Form | None = None,
) -> NDArray[np.float32]:
    """The decoder's images of final states (n, *shape), float32 (n, *decoder shape).

    Raises:
        ExportError: It fails, or they hold NaN or infinity.
    """
    from revstep.export.module.decoder_check import run_decoder
    from revstep.export.module.given import Form

    assert spec.decoder is not None
    scaled = final / np.float32(spec.decoder.scale) + np.float32(spec.decoder.shift)
    out: NDArray[np.float32] = run_decoder(decoder, scaled, spec, form or Form()).numpy()
    if not np.all(np.isfinite(out)):
        raise ExportError(
            "the decoder gives NaN or infinity for the end of a DDIM-20 run; nothing was exported: "
            "is the spec's latent scale that of the training?"
        )
    return out


def check_decoder_parity(
    decode: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    parity: Mapping[str, NDArray[Any]],
    limit: Bounds = BOUNDS["fp32"],
) -> dict[str, float]:
    """The largest error of ``decode``, from final states to images, with its bound.

    Args:
        decode: From final states to images.
        parity: The reference.
        limit: The bounds: ``recorded`` has those of a decoder that was given in 16 bits.

    Raises:
        ParityError: NaN, infinity, or an error above the bound.
    """
    try:
        error = relative_error(decode(parity["ddim20.final"]), parity["decoder.out"])
    except NonFiniteError:
        error = math.inf
    return _within("the decoder", error, limit.forward)


def forward_error(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Largest absolute error, relative to the RMS of its own time or of all, whichever is larger.

    A score or an EDM output may be 100 times larger at one time than at the others: its rounding is
    in proportion to itself. Where the output is small it is a difference of values of ordinary
    size, whose rounding it carries: there the RMS over all times counts.

    Args:
        got: (rows, ...): one time a row.
        want: The reference, of the same shape.

    Returns:
        The error, never more than ``relative_error``; infinite where ``got`` is not finite.
    """
    squares = np.mean(want.astype(np.float64).reshape(len(want), -1) ** 2, axis=1)
    overall = float(np.sqrt(squares.mean())) or 1.0
    own = np.maximum(np.sqrt(squares), overall).reshape(-1, *(1 for _ in want.shape[1:]))
    return relative_error(got / own, want / own, scale=1.0)


def relative_error(
    got: NDArray[Any], want: NDArray[Any], *, rms: bool = False, scale: float | None = None
) -> float:
    """Largest absolute (or RMS) error over the RMS of ``want``; infinite where ``got`` is not.

    ``scale`` takes the RMS's place.
    """
    if not np.all(np.isfinite(got)):
        return math.inf
    difference = got.astype(np.float64) - want.astype(np.float64)
    if scale is None:
        scale = _rms(want) or 1.0
    size = np.sqrt(np.mean(difference**2)) if rms else np.max(np.abs(difference))
    return float(size) / scale


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


def _within(what: str, error: float, bound: float) -> dict[str, float]:
    if error == math.inf:
        raise ParityError(
            f"parity: {what} gave NaN or infinity where PyTorch gives numbers; the bundle is "
            "unchanged. In fp16 this is an overflow: use fp32 or bf16"
        )
    if error > bound:
        raise ParityError(
            f"parity: {what} differs from PyTorch by {error:.3g} of the reference's RMS, the bound "
            f"is {bound:g}; the bundle is unchanged. Export it again or, if the difference is "
            "acceptable, give larger bounds"
        )
    return {"error": error, "bound": bound}


def forward_rows(
    denoiser: Denoiser,
    arrays: Mapping[str, NDArray[Any]],
    x: NDArray[np.float32],
    t: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The network's output for every row of (x, t, cond.*), in calls of an allowed batch."""
    spec, total = denoiser.spec, len(x)
    rows = min(max(total, spec.batch[0]), spec.batch[1])
    buffers = NetworkBuffers.allocate(spec, rows)
    network = denoiser.bind(buffers)
    out = np.empty((total, *spec.output_shape), dtype=np.float32)
    for first in range(0, total, rows):
        chosen = np.minimum(np.arange(first, first + rows), total - 1)  # the last row pads
        buffers.x[:] = x[chosen]
        buffers.t[:] = t[chosen]
        for name, buffer in buffers.conditions.items():
            buffer[:] = arrays[f"cond.{name}"][chosen]
        network()
        kept = min(rows, total - first)
        out[first : first + kept] = buffers.out[:kept]
    return out


def _ddim(
    denoiser: Denoiser,
    arrays: Mapping[str, NDArray[Any]],
    count: int,
    stages: Stages,
    what: str,
) -> NDArray[np.float32]:
    """Final states (count, *shape) of DDIM-20, eta 0, guidance 1, from the seed in ``arrays``."""
    spec = denoiser.spec
    program = build_program(spec, "ddim", min(STEPS, spec.schedule.steps))
    final = np.empty((count, *spec.shape), dtype=np.float32)
    group = min(count, spec.batch[1])
    buffers = NetworkBuffers.allocate(spec, max(group, spec.batch[0]))
    workspace = Workspace(buffers, denoiser.bind(buffers))
    for first in range(0, count, group):
        chosen = slice(first, min(first + group, count))
        conditions = {
            c.name: np.ascontiguousarray(arrays[f"ddim20.cond.{c.name}"][chosen])
            for c in spec.conditions
        }
        seeds = np.arange(count, dtype=np.uint64)[chosen] + np.uint64(arrays["ddim20.seed"])
        batch = Batch(seeds, np.ones(len(seeds), np.float32), conditions, conditions)
        share = STEPS // program.length if first == 0 else 0
        state = run_batch(
            program,
            batch,
            workspace,
            learned_variance=spec.learned_variance,
            observe=lambda number, steps, share=share: stages.advance(what, share),  # type: ignore[misc]
        )
        final[chosen] = state.reshape(-1, *spec.shape)
    return final


def finding(error: ParityError) -> str:
    """What differs by how much, without what to do with a bundle that there is."""
    return str(error).split("; the bundle is")[0].removeprefix("parity: ")
