"""The engine's own noise, as float64 batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from proofs.theory.mixture import Float64
from revstep.kernels import noise


def initial_noise(seed: int, shape: tuple[int, ...]) -> Float64:
    """The noise that a run starts from, of ``shape``."""
    z = noise.normals(seed, 0, noise.STREAM_INITIAL, int(np.prod(shape)))
    return z.astype(np.float64).reshape(shape)


def step_noise(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> Callable[[int], Float64]:
    """The noise of each row, of ``shape``; ``scale`` is 1 but in tests that must fail."""

    def draw(row: int) -> Float64:
        z = noise.normals(seed, row, noise.STREAM_STEP, int(np.prod(shape)))
        return scale * z.astype(np.float64).reshape(shape)

    return draw
