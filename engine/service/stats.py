"""What a service says of itself: queue, slots, times, outcomes."""

from __future__ import annotations

import dataclasses
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

KEPT = 1024  # the latest times, for percentiles
OUTCOMES = ("completed", "failed", "cancelled", "expired", "refused")


@dataclasses.dataclass(frozen=True, slots=True)
class Times:
    """Durations, in seconds.

    Attributes:
        count: How many there were.
        total: Their sum.
        p50: Median of the latest 1,024; None: there was none. So are the other two.
        p90: 90th percentile.
        p99: 99th percentile.
    """

    count: int = 0
    total: float = 0.0
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


class Durations:
    """Collects durations. One thread adds, any reads."""

    def __init__(self) -> None:
        self._count, self._total = 0, 0.0
        self._latest: deque[float] = deque(maxlen=KEPT)

    def add(self, seconds: float, count: int = 1) -> None:
        """Adds ``count`` durations of ``seconds`` each."""
        self._count += count
        self._total += count * seconds
        self._latest.append(seconds)

    def times(self) -> Times:
        """What was collected."""
        found = sorted(self._latest.copy())
        return Times(self._count, self._total, *(_ranked(found, p) for p in (0.5, 0.9, 0.99)))


def _ranked(ascending: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile."""
    if not ascending:
        return None
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceStats:
    """A service at one moment.

    Attributes:
        queued: Requests that have had no slot yet.
        running: Requests with samples in slots.
        samples_waiting: Samples that wait for a slot.
        slots: Network rows of the largest call, and as many slots: a guided sample takes two rows.
        slots_in_use: Samples that step.
        rows_in_use: Their network rows.
        steps: Steps so far.
        rows_run: Network rows of all calls so far.
        rows_wasted: Those of them that were padding.
        outcomes: Requests by how they ended: completed, failed, cancelled, expired, refused.
        queued_s: From submission to the first slot.
        run_s: From there to the result.
        step_s: Of one step.
        network_s: Of the network in it, where that was measured: in one turn of 64.
        draining: Whether it takes no more requests.
    """

    queued: int
    running: int
    samples_waiting: int
    slots: int
    slots_in_use: int
    rows_in_use: int
    steps: int
    rows_run: int
    rows_wasted: int
    outcomes: dict[str, int]
    queued_s: Times
    run_s: Times
    step_s: Times
    network_s: Times
    draining: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)


class Tally:
    """What a service counts. The worker writes; outcomes come from any thread."""

    def __init__(self) -> None:
        self.queued_s, self.run_s = Durations(), Durations()
        self.step_s, self.network_s = Durations(), Durations()
        self.steps = self.rows_run = self.rows_wasted = 0
        self._outcomes = dict.fromkeys(OUTCOMES, 0)
        self._lock = (
            threading.RLock()
        )  # a collected stream cancels its job on any thread, even here

    def outcome(self, name: str) -> None:
        """Counts the end of one request."""
        with self._lock:
            self._outcomes[name] += 1

    @property
    def outcomes(self) -> dict[str, int]:
        """How requests ended so far."""
        with self._lock:
            return dict(self._outcomes)
