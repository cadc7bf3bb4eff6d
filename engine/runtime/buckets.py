"""Buckets: the few numbers of network rows that a device is prepared for."""

from __future__ import annotations

from collections.abc import Sequence

from revstep.engine.checks import check_whole, wrong_type
from revstep.engine.errors import ArgumentError

REPRODUCIBLE_ROWS = 16
MAX_PROGRAM_ROWS = 65_536  # of sampler tables that a device holds at once


def fixed_rows(batch: tuple[int, int]) -> int:
    """The rows of every network call where they are fixed, in the spec's (min, max)."""
    smallest, largest = batch
    return max(smallest, min(largest, REPRODUCIBLE_ROWS))


def make_buckets(batch: tuple[int, int], rows: Sequence[int] | None = None) -> tuple[int, ...]:
    """The buckets, ascending: as asked for, or the powers of two in the spec's batch range.

    Args:
        batch: The spec's (min, max) rows.
        rows: Of each bucket; None: powers of two, and the range's two ends.

    Raises:
        TypeError: Rows that are no whole numbers.
        ValueError: No bucket, one twice, or rows outside the range.
    """
    smallest, largest = batch
    if rows is None:
        powers = (1 << k for k in range(largest.bit_length()))
        return tuple(sorted({*batch, *(p for p in powers if smallest <= p <= largest)}))
    if isinstance(rows, int):
        raise wrong_type(rows, "buckets", f"a sequence of network rows, as ({rows},)")
    buckets = tuple(rows)
    for bucket in buckets:
        check_whole(bucket, "buckets")
        if not smallest <= bucket <= largest:
            allowed = f"the denoiser's batch range, {smallest} to {largest}"
            raise ArgumentError(f"bucket {bucket} is outside {allowed}", "buckets")
    if not buckets or len(set(buckets)) != len(buckets):
        text = f"buckets must be one or more different numbers; got {list(buckets)}"
        raise ArgumentError(text, "buckets")
    return tuple(sorted(buckets))


def fine_buckets(batch: tuple[int, int]) -> tuple[int, ...]:
    """Buckets for a network that takes any number of rows: at most an eighth of one is padding."""
    smallest, largest = batch
    found = [smallest]
    while found[-1] < largest:
        found.append(min(largest, found[-1] + max(1, found[-1] // 8)))
    return tuple(found)


def compiled_buckets(batch: tuple[int, int]) -> tuple[int, ...]:
    """Buckets for a network that is compiled for each: the powers of two, and 12, 24, 48 ...

    Beyond 8 rows at most a third of a call is padding, for one more compilation an octave: a lane
    that is half to three quarters full would else pay for all of it.
    """
    smallest, largest = batch
    halfway = (3 << k for k in range(2, largest.bit_length()))
    return tuple(sorted({*make_buckets(batch), *(h for h in halfway if smallest < h < largest)}))


def bucket_for(buckets: Sequence[int], rows: int) -> int:
    """The smallest bucket of at least ``rows`` rows.

    Raises:
        ValueError: ``rows`` is more than the largest.
    """
    for bucket in buckets:
        if bucket >= rows:
            return bucket
    raise ValueError(
        f"{rows} network rows are more than the largest bucket, {buckets[-1]}; use a smaller "
        "batch_size, or load with larger buckets"
    )


def smaller_buckets(buckets: Sequence[int], rows: int) -> str:
    """What to do where ``rows`` network rows take too much memory."""
    smaller = [b for b in buckets if b < rows] or [1]
    return (
        f"load with smaller buckets, as buckets=({', '.join(map(str, smaller))},), with a "
        "lower precision, or on a GPU with more memory"
    )
