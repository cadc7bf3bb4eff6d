"""Noise as a diffusers scheduler draws it: the same numbers from the same generator."""

from __future__ import annotations

import math
from typing import Any

import torch

from revstep.kernels import columns as col


def draw_noise(
    output: torch.Tensor, generator: Any, given: torch.Tensor | None, *, wide: bool
) -> torch.Tensor:
    """Standard normal noise of one step, float32 or float64, contiguous.

    Args:
        output: The network's output, of the state's shape.
        generator: What the pipeline was given: None, one, or a list of one for each sample.
        given: Noise in place of drawn one.
        wide: Whether it is drawn in float32 whatever the output's dtype.
    """
    if given is None:
        from diffusers.utils.torch_utils import randn_tensor

        dtype = torch.float32 if wide else output.dtype
        given = randn_tensor(
            tuple(output.shape), generator=generator, device=output.device, dtype=dtype
        )
    z = given.to(output.device)
    return (z if z.dtype is torch.float64 else z.float()).contiguous()


def learned_noise(z: torch.Tensor, v: torch.Tensor, row: list[float]) -> torch.Tensor:
    """Z times the deviation that the network interpolates (Nichol & Dhariwal 2021, eq. 15).

    Args:
        z: Standard normal noise.
        v: The variance half of the output.
        row: The table's row, with the logarithms of both ends.
    """
    share = (v.to(z.dtype) + 1.0) / 2.0
    log_variance = share * row[col.LOG_BETA] + (1.0 - share) * row[col.LOG_BETA_TILDE]
    return (torch.exp(0.5 * log_variance) * z).contiguous()


def before_noise(x: torch.Tensor, z: torch.Tensor | None, row: list[float]) -> torch.Tensor:
    """What LCM and TCD give beside the next sample: that before noise, at its own level.

    With s the deviation of the noise, that level's signal and noise are as many times larger as
    1 is than the root of 1 - s².

    Args:
        x: The next sample.
        z: Its noise; None where there is none.
        row: The table's row.
    """
    if z is None:
        return x.clone()
    s = row[col.S]
    return ((x - s * z) / math.sqrt(1.0 - s * s)).to(x.dtype)
