"""One load at one rate, and what a row says of it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from time import perf_counter, sleep
from typing import Any

from revstep.bench.load.arrivals import poisson_arrivals
from revstep.bench.load.loop import ANSWER_S, PATIENCE_S, Send, open_loop
from revstep.bench.load.replies import Replies
from revstep.bench.load.slices import drift_of, slices_of
from revstep.bench.load.verdict import Limit, Misses, verdict_of
from revstep.bench.stats.percentiles import (
    SHOWN,
    all_supported,
    highest_supported,
    samples_needed,
    unsupported,
)
from revstep.engine.errors import ArgumentError

MOST_RATE = 10_000.0  # requests a second: what one client sends is less
MOST_ARRIVALS = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How a service is loaded.

    Attributes:
        rate: Requests a second, on average.
        seconds: Of the schedule.
        seed: Of arrivals and requests.
        patience_s: A request that would go out later than that is not sent.
        answer_s: Of waiting after the last one.

    Raises:
        ArgumentError: Out of range.
    """

    rate: float
    seconds: float
    seed: int = 0
    patience_s: float = PATIENCE_S
    answer_s: float = ANSWER_S

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= MOST_RATE:
            raise ArgumentError(
                f"rate={self.rate:g} must be above 0 and at most {MOST_RATE:g} a second", "rate"
            )
        if not 0.0 < self.seconds < math.inf:
            raise ArgumentError(f"seconds={self.seconds:g} must be above 0", "seconds")
        if not 1 <= self.count <= MOST_ARRIVALS:
            raise ArgumentError(
                f"{self.rate:g} requests a second for {self.seconds:g} s are {self.count}; it must "
                f"be 1 to {MOST_ARRIVALS:,}", "seconds",
            )  # fmt: skip

    @property
    def count(self) -> int:
        """Requests of the schedule."""
        return round(self.rate * self.seconds)

    def check_supports(self, percent: float) -> None:
        """Refuses a schedule that is too short for a percentile.

        Raises:
            ArgumentError: It says how many seconds it takes.
        """
        needed = samples_needed(percent)
        if self.count < needed:
            takes = math.ceil(10 * needed / self.rate) / 10
            raise ArgumentError(
                f"p{percent:g} takes {needed} requests, which is {takes:g} s at {self.rate:g} a "
                f"second: --seconds {takes:g} instead of {self.seconds:g}, or a higher rate",
                "seconds",
            )


def run_load(
    send: Send[bytes],
    draw: Callable[[int, int], Sequence[bytes]],
    load: Load,
    until_missed: Limit | None = None,
    clock: Callable[[], float] = perf_counter,
    rest: Callable[[float], object] = sleep,
) -> Replies:
    """Loads a service.

    Args:
        send: Sends a request.
        draw: Gives so many requests of a seed.
        load: How.
        until_missed: It ends early where this is surely missed; the schedule supports its
            percentile. None: it runs to its end.
        clock: Gives seconds.
        rest: Waits for seconds.
    """
    due = poisson_arrivals(load.rate, load.count, load.seed).tolist()
    watch = None if until_missed is None else Misses(until_missed, load.count)
    return open_loop(
        send, draw(load.count, load.seed), due, patience_s=load.patience_s, answer_s=load.answer_s,
        watch=watch, clock=clock, rest=rest,
    )  # fmt: skip


def figures_of(
    replies: Replies, load: Load, limit: Limit | None, deadline_s: float | None
) -> dict[str, Any]:
    """What a row says of a load.

    Returns:
        ``load`` (its settings), ``stopped``, ``arrivals`` (that count), ``summary`` (``outcomes``,
        ``reasons``, ``percentiles`` of the latencies with what had no answer as infinite (None),
        ``highest`` that so many support, ``more_arrivals`` that others take, ``answered_per_s``,
        ``late`` of sending), ``goodput`` within the deadline, ``slices``, ``drift``, ``verdict`` of
        the limit, and ``raw``.
    """
    times = replies.latencies
    seconds = max((reply.due_s for reply in replies.ended), default=0.0)
    return {
        "load": dataclasses.asdict(load),
        "stopped": replies.stopped,
        "planned": replies.planned,
        "arrivals": len(times),
        "summary": {
            "outcomes": replies.counts,
            "reasons": replies.reasons,
            "percentiles": all_supported(times, SHOWN),
            "highest": highest_supported(times),
            "more_arrivals": unsupported(len(times), SHOWN),
            "answered_per_s": replies.counts["answered"] / seconds if seconds else None,
            "late_s": replies.lateness,
        },
        "goodput": None if deadline_s is None else goodput(times, seconds, deadline_s),
        "slices": slices_of(replies.ended, seconds) if seconds else [],
        "drift": dataclasses.asdict(drift_of(replies.ended)),
        "limit": None if limit is None else dataclasses.asdict(limit),
        "verdict": None if limit is None else verdict_of(replies, limit),
        "raw": replies.raw(),
    }


def goodput(times: Sequence[float], seconds: float, deadline_s: float) -> dict[str, Any]:
    """What was answered within a deadline, of all that was due: the ``share``, and ``per_s``."""
    good = sum(time <= deadline_s for time in times)
    return {
        "deadline_s": deadline_s,
        "good": good,
        "share": good / len(times) if times else None,
        "per_s": good / seconds if seconds else None,
    }
