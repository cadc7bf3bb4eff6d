"""Inpainting: which pixels are known, and what they are.

After every step the known pixels are written into the state at the step's own noise level,
``x' = mask (alpha y + sigma z2) + (1 - mask) x'`` (Lugmayr et al. 2022, "RePaint", eq. 8), inside
the fused kernel; after the last step they are y itself. How well a hole agrees with what is
around it is the sampler's matter: ``repaint`` walks back and forth for that::

    left = np.arange(32) < 16                    # (W,): keeps the left half of (C, H, W)
    engine.sample(mask=left, known=photo, sampler="repaint", steps=100)

With ``compat="diffusers"`` the levels, the steps and the start are those of that library's
inpainting pipelines for networks of 4 channels: at strength 1 (or without ``start``) they begin at
noise alone, where the paper's run begins at the noised known pixels. Two things differ. Known
pixels get fresh noise in every step, as in the paper; the pipelines put the start's noise on them
again. And the mask is taken as it is, 1 where it keeps; theirs is 1 where it repaints, and is
rounded to 0 and 1 and scaled to the latents' size first.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.arrays import array_from, data_values, floats, rows_view
from revstep.engine.errors import ArgumentError
from revstep.engine.spec.denoiser import DenoiserSpec


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Known pixels of n samples; what all share takes the memory of one.

    Attributes:
        mask: float32 (n, *shape): 1 keeps the known pixel, 0 leaves the sample's own.
        pixels: y, float32 (n, *shape).
        start: y of the initial state: the known pixels, and in the hole the start, or 0.
    """

    mask: NDArray[np.float32]
    pixels: NDArray[np.float32]
    start: NDArray[np.float32]


def known_pixels(
    spec: DenoiserSpec,
    n: int,
    mask: ArrayLike | None,
    known: ArrayLike | None,
    start: NDArray[np.float32] | None,
) -> Known | None:
    """The arguments ``mask`` and ``known`` of ``Engine.sample`` for n samples; None without.

    Args:
        spec: The denoiser's spec.
        n: Number of samples.
        mask: 0 to 1, or bools; of a shape that numpy broadcasts to (*shape), such as (H, W) for
            (C, H, W), or n of such.
        known: (n, *shape) or (*shape); None: the start, then not None.
        start: (n, *shape), checked, or None.

    Raises:
        TypeError: No numbers.
        ValueError: A wrong shape, or a mask outside [0, 1].
    """
    if mask is None:
        return None
    whole = (n, *spec.shape)
    part = _mask(spec, n, mask)
    pixels = start if known is None else data_values(known, "known", spec.value_range)
    assert pixels is not None
    rows = rows_view(pixels, spec.shape, n, "known")
    begin = part * pixels
    if start is not None:
        begin = begin + (np.float32(1) - part) * start
    return Known(np.broadcast_to(part, whole), rows, np.broadcast_to(begin, whole))


def _mask(spec: DenoiserSpec, n: int, mask: ArrayLike) -> NDArray[np.float32]:
    """(*shape), or of n samples where it is given so."""
    array = array_from(mask, "mask")
    part = array.astype(np.float32) if array.dtype == bool else floats(array, "mask")
    if part.size and not 0.0 <= part.min() <= part.max() <= 1.0:
        wrong = part.min() if part.min() < 0.0 else part.max()
        raise ArgumentError(
            f"mask holds {wrong:g}; it lies in [0, 1], where 1 keeps the known pixel (divide a "
            "picture's 0 .. 255 by 255)",
            "mask",
        )
    whole = (n, *spec.shape)
    try:
        if part.ndim == len(whole):
            return np.broadcast_to(part, whole)
        return np.broadcast_to(part, spec.shape)
    except ValueError:
        raise ArgumentError(
            f"mask has shape {array.shape}; allowed: {spec.shape} or what broadcasts to it (such "
            f"as {spec.shape[1:] or (1,)}), or {n} of such",
            "mask",
        ) from None
