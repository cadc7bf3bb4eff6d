"""Between seeds: the noise that a seed starts from, and the way from one noise to another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.engine.arrays import array_from, floats
from revstep.engine.checks import check_whole
from revstep.engine.errors import ArgumentTypeError
from revstep.engine.runtime.request import checked_seed, sample_seeds
from revstep.kernels import normal_fill
from revstep.kernels.noise import STREAM_INITIAL

OPPOSITE = 1e-6  # radians from a half turn: no way round is shorter than the others


def initial_noise(
    seed: int | Sequence[int], shape: Sequence[int], n: int | None = None
) -> NDArray[np.float32]:
    """The standard normal noise that samples of ``seed`` start from: what ``noise`` replaces.

    Args:
        seed: An int S (sample i uses (S + i) mod 2^64), or one int per sample.
        shape: Shape of one sample, such as ``engine.spec.shape``.
        n: How many; None: as many as seeds.

    Returns:
        float32 (n, *shape), the same bits on every machine.

    Raises:
        TypeError: A seed or shape of a wrong type.
        ValueError: A seed out of range, or another number of seeds than n.

    Example:
        >>> initial_noise([3, 8], (1, 32, 32)).shape
        (2, 1, 32, 32)
    """
    if seed is None:
        raise ArgumentTypeError("initial_noise needs a seed: an int, or one int per sample", "seed")
    size = tuple(check_whole(d, "shape", numpy=True) for d in shape)
    keys = checked_seed(seed)
    if n is None:
        n = len(keys) if isinstance(keys, tuple) else 1
    seeds = sample_seeds(keys, check_whole(n, "n", 1, numpy=True))
    out = np.empty((len(seeds), int(np.prod(size))), np.float32)
    normal_fill(out, seeds, 0, STREAM_INITIAL)
    return out.reshape(len(seeds), *size)


def slerp(a: ArrayLike, b: ArrayLike, mix: float | ArrayLike) -> NDArray[np.float32]:
    """From noise ``a`` (mix 0) to noise ``b`` (mix 1) on the arc between them.

    The direction turns at an even rate (Shoemake 1985) and the mean square goes evenly from that
    of ``a`` to that of ``b``: every mixture of two unit-variance noises has unit variance, while on
    the straight line the one halfway has half of it. The ends are ``a`` and ``b`` bit for bit.

    Args:
        a: Noise of one sample, (*shape).
        b: The same shape.
        mix: One number in [0, 1], or (n,): n mixtures.

    Returns:
        float32 (*shape), or (n, *shape): the ``noise`` of ``Engine.sample``.

    Raises:
        TypeError: No numbers.
        ValueError: Different shapes, NaN, a mix of two axes or outside [0, 1], or opposite
            directions, between which no arc is the shortest.

    Example:
        Nine samples on the way from seed 3 to seed 8, whose ends are those seeds' own::

            a, b = revstep.initial_noise([3, 8], engine.spec.shape)
            noise = revstep.slerp(a, b, np.linspace(0, 1, 9))
            images = engine.sample(noise=noise, seed=0).pil()
    """
    first, second = (floats(v, name).astype(np.float64) for v, name in ((a, "a"), (b, "b")))
    if first.shape != second.shape:
        raise ValueError(f"a has shape {first.shape} and b {second.shape}; they must be the same")
    share = array_from(mix, "mix")
    if share.dtype.kind not in "fiu":
        raise TypeError(f"mix must be numbers; got {share.dtype}")
    if share.ndim > 1 or not np.all((share >= 0) & (share <= 1)):
        raise ValueError(f"mix is one number in [0, 1], or one per sample; got {mix!r}")
    m = share.astype(np.float64).reshape(*share.shape, *(1,) * first.ndim)
    lengths = np.linalg.norm(first), np.linalg.norm(second)
    if 0.0 in lengths:  # no direction
        return np.asarray((1.0 - m) * first + m * second, np.float32)
    u, v = first / lengths[0], second / lengths[1]
    angle = 2.0 * np.arctan2(np.linalg.norm(u - v), np.linalg.norm(u + v))
    if np.pi - angle < OPPOSITE:
        raise ValueError("a and b point in opposite directions; no arc between them is shortest")
    near, far = 1.0 - m, m
    if angle > 0.0:
        near, far = (np.sin(w * angle) / np.sin(angle) for w in (near, far))
    length = np.sqrt((1.0 - m) * lengths[0] ** 2 + m * lengths[1] ** 2)
    return np.asarray(length * (near * u + far * v), np.float32)
