"""The parity check: a compiled network against the PyTorch module that it came from.

``make_parity`` (in ``vectors``) runs the module at 8 times, on rows of conditions at their edges,
and through a whole DDIM-20 run (eta 0, guidance 1); ``check_parity`` runs another denoiser on the
same inputs, and ``check_decoder_parity`` the decoder on the final state. Each edge row stands
alone, with ten times the bound: it finds what is wrong in kind, not rounding. Where its output is
nearly nothing, what one forward pass is allowed holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.errors import NonFiniteError
from revstep.export.parity.bounds import (
    BOUNDS,
    Bounds,
    forward_error,
    relative_error,
    resolve_bounds,
    root_mean_square,
    within,
)
from revstep.export.parity.runs import STEPS, ddim_run, forward_rows
from revstep.export.progress import Stages

EDGE = "edge."
EDGE_FACTOR = 10.0  # of the forward bound: large conditions amplify rounding
EDGES = (
    "one forward pass of a condition at an edge (null, zeros, a mask all off, on or half on, large)"
)


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
    return {**figures, **check_run(denoiser, parity, limit, stages, what)}


def check_forward(
    denoiser: Denoiser, parity: Mapping[str, NDArray[Any]], limit: Bounds
) -> dict[str, dict[str, float]]:
    """The errors of single network calls, with their bounds: ``forward``, and ``edges`` if any.

    Raises:
        ParityError: NaN, infinity, or an error above its bound.
    """
    out = forward_rows(denoiser, parity, parity["x"], parity["t"])
    error = forward_error(out, parity["out"])
    figures = {"forward": within("one forward pass", error, limit.forward)}
    if f"{EDGE}x" in parity:
        rows = {name.removeprefix(EDGE): v for name, v in parity.items() if name.startswith(EDGE)}
        out = forward_rows(denoiser, rows, rows["x"], rows["t"])
        # an output below this is a difference of ordinary values, whose rounding it carries
        floor = root_mean_square(parity["out"]) / EDGE_FACTOR
        error = max(
            relative_error(got, want, scale=max(root_mean_square(want), floor) or 1.0)
            for got, want in zip(out, rows["out"], strict=True)
        )
        figures["edges"] = within(EDGES, error, EDGE_FACTOR * limit.forward)
    return figures


def check_run(
    denoiser: Denoiser,
    parity: Mapping[str, NDArray[Any]],
    limit: Bounds,
    stages: Stages | None = None,
    what: str = "parity",
) -> dict[str, dict[str, float]]:
    """The error of the end of a DDIM-20 run, with its bound: ``ddim20``.

    Raises:
        ParityError: NaN, infinity, or an error above its bound.
    """
    stages = stages or Stages(None, STEPS)
    final = ddim_run(denoiser, parity, len(parity["ddim20.final"]), stages, what)
    error = relative_error(final, parity["ddim20.final"], rms=True)
    return {"ddim20": within("a DDIM-20 run", error, limit.ddim20)}


def check_decoder_parity(
    decode: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    parity: Mapping[str, NDArray[Any]],
    limit: Bounds = BOUNDS["fp32"],
) -> dict[str, float]:
    """The largest error of ``decode``, from final states to images, with its bound.

    ``recorded`` has the bounds of a decoder that was given in 16 bits.

    Raises:
        ParityError: NaN, infinity, or an error above the bound.
    """
    try:
        error = relative_error(decode(parity["ddim20.final"]), parity["decoder.out"])
    except NonFiniteError:
        error = math.inf
    return within("the decoder", error, limit.forward)
