"""A load in slices of time: what was sent and answered in each, and whether it got slower."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from revstep.bench.load.replies import Reply
from revstep.bench.stats.percentiles import all_supported, supported

SLICES = 10
ENDS = 0.3  # of the requests: the first and the last that are compared
SLOWER = 1.5  # times: what is drift, where the intervals of both medians lie apart too


@dataclasses.dataclass(frozen=True, slots=True)
class Drift:
    """The first requests against the last.

    Attributes:
        first_s: Median latency of the first; None: most got no answer, or too few to say.
        last_s: Of the last.
        growing: Whether the last are surely slower: a queue grows, and the load isn't steady.
    """

    first_s: float | None
    last_s: float | None
    growing: bool


def slices_of(
    replies: Sequence[Reply], seconds: float, count: int = SLICES
) -> list[dict[str, Any]]:
    """Each slice: ``from_s``, ``to_s``, ``due``, ``sent``, ``failures``, percentiles, ``late_s``.

    Args:
        replies: In the schedule's order; a request belongs to the slice in which it is due.
        seconds: Of the whole load.
        count: Of slices.

    Returns:
        ``due`` are the requests of the slice, ``sent_per_s`` the rate at which they went out;
        ``failures`` those without an answer; ``percentiles`` those of latencies that so many
        support; ``late_s`` the largest lateness of sending, or None.
    """
    parts: list[list[Reply]] = [[] for _ in range(count)]
    for reply in replies:
        parts[min(count - 1, int(reply.due_s / seconds * count))].append(reply)
    width = seconds / count
    return [_slice(part, k * width, width) for k, part in enumerate(parts)]


def _slice(part: Sequence[Reply], begins: float, width: float) -> dict[str, Any]:
    late = [reply.late_s for reply in part if reply.late_s is not None]
    return {
        "from_s": begins,
        "to_s": begins + width,
        "due": len(part),
        "sent_per_s": len(late) / width,
        "failures": sum(reply.outcome != "answered" for reply in part),
        "percentiles": all_supported([reply.latency_s for reply in part]),
        "late_s": max(late, default=None),
    }


def drift_of(replies: Sequence[Reply]) -> Drift:
    """Whether the last requests are slower than the first."""
    count = int(len(replies) * ENDS)
    first = supported([reply.latency_s for reply in replies[:count]], 50)
    last = supported([reply.latency_s for reply in replies[len(replies) - count :]], 50)
    if first is None or last is None:
        return Drift(None, None, growing=False)
    before, most = (_or_never(first[name]) for name in ("value", "high"))
    after, least = (_or_never(last[name]) for name in ("value", "low"))
    growing = least > most and after > SLOWER * before
    return Drift(first["value"], last["value"], growing)


def _or_never(value: float | None) -> float:
    return math.inf if value is None else value
