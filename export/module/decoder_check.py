"""That a decoder fits its spec."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.module.examples import example_inputs
from revstep.export.module.given import Form, calling

__all__ = ["check_decoder", "run_decoder"]

PLAIN = Form()


def check_decoder(decoder: torch.nn.Module | None, spec: DenoiserSpec) -> None:
    """Runs the decoder at batch 2.

    Raises:
        ExportError: It does not fit the spec's decoder.
    """
    if (decoder is None) != (spec.decoder is None):
        have = "the spec describes a decoder but no decoder module was given"
        if spec.decoder is None:
            have = "a decoder module was given but spec.decoder is None"
        raise ExportError(f"{have}; give both or neither")
    if decoder is None or spec.decoder is None:
        return
    run_decoder(decoder, example_inputs(spec, 2)[0], spec)


def run_decoder(
    decoder: torch.nn.Module,
    latents: np.ndarray[Any, Any],
    spec: DenoiserSpec,
    form: Form = PLAIN,
) -> torch.Tensor:
    """The decoder's float32 output for latents (B, *shape), checked to be of the spec's shape.

    Raises:
        ExportError: It fails, or returns something else.
    """
    assert spec.decoder is not None
    given = torch.from_numpy(latents.copy()).to(device=form.device, dtype=form.dtype)
    try:
        with calling(form.device):
            out: object = decoder(given)
    except Exception as error:  # a user's module may raise anything
        raise ExportError(
            f"the decoder failed on float32 {latents.shape}: {type(error).__name__}: {error}"
        ) from error
    want = (len(latents), *spec.decoder.shape)
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != want:
        found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
        raise ExportError(
            f"the decoder returned {found} for {latents.shape}, expected {want}; "
            "mend spec.decoder.shape or the decoder"
        )
    return out.detach().to(device="cpu", dtype=torch.float32)
