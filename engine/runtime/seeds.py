"""Seeds: sample i of an int seed S uses the key (S + i) mod 2^64."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["sample_seeds"]

SEEDS = 1 << 64


def sample_seeds(
    seed: int | Sequence[int] | NDArray[np.integer] | None, n: int
) -> NDArray[np.uint64]:
    """One 64-bit key a sample, uint64 (n,).

    Args:
        seed: An int S (sample i gets (S + i) mod 2^64), one int a sample, or None: drawn.
        n: Number of samples.

    Raises:
        TypeError: A seed that is not an integer.
        ValueError: A seed outside 0 .. 2^64 - 1, or a sequence of another length.
    """
    if seed is None:
        seed = secrets.randbits(63)
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return np.uint64(_checked(seed)) + np.arange(n, dtype=np.uint64)  # wraps at 2^64
    if isinstance(seed, (str, bytes, bool, float)) or not hasattr(seed, "__len__"):
        raise TypeError(f"seed must be an int, a sequence of ints, or None; got {seed!r}")
    if len(seed) != n:
        raise ValueError(f"got {len(seed)} seeds for {n} samples; give one each, or one int")
    return np.array([_checked(s) for s in seed], dtype=np.uint64)


def _checked(seed: object) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise TypeError(f"a seed is an int from 0 to 2^64 - 1; got {seed!r}")
    if not 0 <= int(seed) < SEEDS:
        raise ValueError(f"seed {int(seed)} is out of range; allowed: 0 to 2^64 - 1 = {SEEDS - 1}")
    return int(seed)
