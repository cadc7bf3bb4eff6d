"""Seeds: sample i of an int seed S uses the key (S + i) mod 2^64."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_whole, wrong_type
from revstep.engine.errors import ArgumentError

__all__ = ["checked_seed", "sample_seeds"]

SEEDS = 1 << 64


def checked_seed(seed: object) -> int | tuple[int, ...] | None:
    """A caller's seed: an int, one int per sample, or None.

    Raises:
        ArgumentTypeError: A seed that is not an integer.
        ArgumentError: A seed outside 0 .. 2^64 - 1.
    """
    if seed is None:
        return None
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return _whole(seed)
    if isinstance(seed, str | bytes) or not hasattr(seed, "__len__"):
        raise wrong_type(seed, "seed", "an int, a sequence of ints, or None")
    return tuple(map(_whole, cast("Iterable[object]", seed)))


def sample_seeds(seed: int | Sequence[int] | None, n: int) -> NDArray[np.uint64]:
    """One 64-bit key per sample, uint64 (n,).

    Args:
        seed: A ``checked_seed``: an int S (sample i gets (S + i) mod 2^64), one int per sample, or
            None: drawn.
        n: Number of samples.

    Raises:
        ArgumentError: Seeds of another number than n.
    """
    if seed is None or isinstance(seed, int):
        first = secrets.randbits(63) if seed is None else seed
        return np.uint64(first) + np.arange(n, dtype=np.uint64)  # wraps at 2^64
    if len(seed) != n:
        raise ArgumentError(
            f"got {len(seed)} seeds for {n} samples; give one each, or one int", "seed"
        )
    return np.array(seed, dtype=np.uint64)


def _whole(seed: object) -> int:
    return check_whole(seed, "seed", 0, SEEDS - 1, numpy=True, more=" = 2^64 - 1")
