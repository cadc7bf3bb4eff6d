"""Whether a percentile holds at a rate: surely, surely not, or not known."""

from __future__ import annotations

import dataclasses
import math
import threading
from typing import Literal

from revstep.bench.load.replies import Replies, Reply
from revstep.bench.load.slices import drift_of
from revstep.bench.stats.percentiles import interval_ranks, supported

Verdict = Literal["holds", "missed", "undecided"]


@dataclasses.dataclass(frozen=True, slots=True)
class Limit:
    """What a percentile of the latencies must not exceed.

    Attributes:
        seconds: From the schedule to the last byte.
        percent: Of the percentile.
    """

    seconds: float
    percent: float = 99.0


class Misses:
    """Ends a load once its limit is surely missed, whatever the rest of it does.

    The number that decides is that of the whole load, so looking early makes no verdict likelier.

    Args:
        limit: The limit.
        planned: Requests of the load, enough for the percentile.
    """

    def __init__(self, limit: Limit, planned: int) -> None:
        ranks = interval_ranks(planned, limit.percent)
        assert ranks is not None
        self._limit, self._allowed = limit.seconds, planned - ranks[0]
        self._lock, self._late = threading.Lock(), 0

    def told(self, reply: Reply) -> None:
        """Counts a reply that was late, or none."""
        if reply.latency_s > self._limit:
            with self._lock:
                self._late += 1

    def enough(self) -> bool:
        """Whether the lower end of the percentile's interval lies beyond the limit by now."""
        return self._late > self._allowed


def verdict_of(replies: Replies, limit: Limit) -> Verdict:
    """What a load says of a limit, by the interval of its percentile.

    A load whose last requests are slower than its first is not known to hold: a longer one would
    not. Nor is one that was interrupted.
    """
    if replies.stopped == "missed":
        return "missed"
    found = supported(replies.latencies, limit.percent)
    if found is None or replies.stopped == "interrupted":
        return "undecided"
    low, high = (math.inf if found[k] is None else found[k] for k in ("low", "high"))
    assert low is not None
    assert high is not None
    if low > limit.seconds:
        return "missed"
    growing = drift_of(replies.ended).growing
    return "holds" if high <= limit.seconds and not growing else "undecided"
