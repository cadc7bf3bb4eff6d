"""Latents decoded in tiles that overlap, blended along their seams."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import Decoder, DenoiserSpec

Decode = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Strip(NamedTuple):
    """One tile along one axis.

    Attributes:
        latents: Where it begins, in latents.
        begin, end: What of the picture it gives.
        weights: Its share at each of these, float32: it rises over the seam with the tile before,
            and falls over that with the next.
    """

    latents: int
    begin: int
    end: int
    weights: NDArray[np.float32]


def strips(size: int, tile: int, stride: int, overlap: float) -> list[Strip]:
    """The tiles along an axis of ``size`` latents, ``stride`` pixels each; shares add up to 1.

    All are whole: the last one begins early, where diffusers decodes a smaller one. The blend is
    diffusers': linear over ``overlap`` of a tile, up to the end of the tile before.
    """
    step = max(1, int(tile * (1.0 - overlap)))
    starts = [*range(0, size - tile, step), max(0, size - tile)]
    seam = min(int(tile * stride * overlap), (tile - step) * stride)
    ramp = np.arange(seam, dtype=np.float32) / np.float32(max(1, seam))
    found = []
    for i, start in enumerate(starts):
        begin = 0 if i == 0 else (starts[i - 1] + tile) * stride - seam
        end = min(start + tile, size) * stride
        weights = np.ones(end - begin, np.float32)
        if i:
            weights[:seam] = ramp
        if i + 1 < len(starts):
            weights[len(weights) - seam :] *= 1.0 - ramp
        found.append(Strip(start, begin, end, weights))
    return found


def call_shapes(spec: DenoiserSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(latents, pictures) of one call of the spec's decoder, without the rows: all, or a tile."""
    assert spec.decoder is not None
    tile = spec.decoder.tile
    picture = call_picture(spec.decoder, spec.shape)
    return (spec.shape if tile is None else (spec.shape[0], *tile)), picture


def call_picture(decoder: Decoder, latents: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of what one call makes of such latents: the picture, or that of a tile."""
    tile, shape = decoder.tile, decoder.shape
    if tile is None:
        return shape
    size = [t * p // s for t, p, s in zip(tile, shape[-2:], latents[-2:], strict=True)]
    return (shape[0], *size)


def decode_tiles(
    latents: NDArray[np.float32], spec: Decoder, decode: Decode
) -> NDArray[np.float32]:
    """(n, *spec.shape) pictures of latents (n, C, rows, columns).

    Args:
        latents: The decoder's input, scaled.
        spec: Of a decoder in tiles.
        decode: (n, C, *spec.tile) to (n, channels, pixels of a tile).
    """
    assert spec.tile is not None
    out = np.zeros((len(latents), *spec.shape), np.float32)
    axes = [
        strips(size, tile, pixels // size, spec.overlap)
        for size, tile, pixels in zip(latents.shape[-2:], spec.tile, spec.shape[-2:], strict=True)
    ]
    rows, columns = spec.tile
    strides = [p // s for p, s in zip(spec.shape[-2:], latents.shape[-2:], strict=True)]
    for down in axes[0]:
        for across in axes[1]:
            y, x = down.latents, across.latents
            part = np.ascontiguousarray(latents[..., y : y + rows, x : x + columns])
            top, left = down.begin - y * strides[0], across.begin - x * strides[1]
            picture = decode(part)[..., top:, left:]
            share = down.weights[:, None] * across.weights
            out[..., down.begin : down.end, across.begin : across.end] += share * picture
    return out
