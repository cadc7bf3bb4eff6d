"""What became of requests that were due."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any, Literal

Outcome = Literal["answered", "refused", "failed", "timeout", "unsent"]
Stopped = Literal["ended", "missed", "interrupted"]
OUTCOMES: tuple[Outcome, ...] = ("answered", "refused", "failed", "timeout", "unsent")

_one = threading.Lock()  # a reply may end in a client's thread and in the loop's


class Reply:
    """The reply to one request. Thread-safe.

    Args:
        due_s: When it is due, from the start.
        begun: The start, by the clock.
        patience_s: It is not sent when it is later than that.
        clock: Gives seconds.
        told: Called once it has ended.

    Attributes:
        due_s: As given.
        late_s: Seconds from the schedule to the sending; None: it was not sent.
        latency_s: Seconds from the schedule to its last byte; infinite where it was not answered.
        outcome: None: it has not ended.
        why: What failed, in few words.
    """

    __slots__ = (
        *("_begun", "_clock", "_patience_s", "_told"),
        *("due_s", "late_s", "latency_s", "outcome", "why"),
    )

    def __init__(
        self,
        due_s: float,
        begun: float,
        patience_s: float,
        clock: Callable[[], float],
        told: Callable[[Reply], object],
    ) -> None:
        self.due_s, self.late_s, self.latency_s = due_s, None, math.inf
        self.outcome: Outcome | None = None
        self.why = ""
        self._begun, self._patience_s, self._clock, self._told = begun, patience_s, clock, told

    late_s: float | None

    def goes(self) -> bool:
        """Called as the request goes out; False: it is too late, and must not."""
        late = self._clock() - self._begun - self.due_s
        if late > self._patience_s:
            self.ends("unsent", "it was due too long ago")
            return False
        if self.outcome is not None:
            return False
        self.late_s = late
        return True

    def ends(self, outcome: Outcome, why: str = "") -> None:
        """Called as the last byte is there, or nothing more will come; the first call counts."""
        now = self._clock()
        with _one:
            if self.outcome is not None:
                return
            if outcome == "answered":
                self.latency_s = now - self._begun - self.due_s
            self.outcome, self.why = outcome, why
        self._told(self)


@dataclasses.dataclass(frozen=True, slots=True)
class Replies:
    """What became of scheduled requests.

    Attributes:
        ended: The replies in the schedule's order. Where the load was stopped, those before the
            first one that was still awaited: leaving out that one alone would flatter.
        planned: Requests of the whole schedule.
        stopped: Why it ended.
    """

    ended: Sequence[Reply]
    planned: int
    stopped: Stopped = "ended"

    @property
    def latencies(self) -> list[float]:
        """Seconds from the schedule to the last byte; infinite where there was no answer."""
        return [reply.latency_s for reply in self.ended]

    @property
    def late(self) -> list[float]:
        """Seconds from the schedule to the sending, of those that were sent."""
        return [reply.late_s for reply in self.ended if reply.late_s is not None]

    @property
    def counts(self) -> dict[Outcome, int]:
        """How many ended how."""
        found = Counter(reply.outcome for reply in self.ended)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def reasons(self) -> dict[str, int]:
        """Of what was not answered, the most frequent first."""
        return dict(Counter(reply.why for reply in self.ended if reply.why).most_common())

    @property
    def lateness(self) -> dict[str, float]:
        """``p50`` and ``max`` of ``late``; empty where nothing was sent."""
        late = self.late
        return {"p50": median(late), "max": max(late)} if late else {}

    def raw(self) -> dict[str, list[Any]]:
        """Each reply as JSON values: ``due_s``, ``late_s``, ``latency_s`` and ``outcome``."""
        return {
            "due_s": [reply.due_s for reply in self.ended],
            "late_s": [reply.late_s for reply in self.ended],
            "latency_s": [
                reply.latency_s if reply.outcome == "answered" else None for reply in self.ended
            ],
            "outcome": [reply.outcome for reply in self.ended],
        }
