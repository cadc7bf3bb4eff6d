"""What is possible: the three policies in simulated time, with the network's measured times alone.

No thread, no lock, no admission costs anything here, so a server can at best come near.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from suites.service.sides import ALONE, IN_FLIGHT, MAX_QUEUE, SLOTS, WHOLE

Costs = Mapping[int, float]
"""Seconds of a step, by the network rows of its call: the prepared numbers of rows."""


def step_cost(costs: Costs, rows: int) -> float:
    """Seconds of a step of so many rows: those of the smallest number that holds them."""
    return costs[min(size for size in costs if size >= rows)]


class _Queue:
    """Requests that wait: those that are due come in turn, and are refused where it is full."""

    def __init__(self, due: Sequence[float], latencies: list[float]) -> None:
        self._due, self._latencies = due, latencies
        self._next = 0
        self.waiting: deque[int] = deque()

    def wait(self, now: float) -> float:
        """Lets all come that are due by then; where nobody waits, by when the next one is."""
        if not self.waiting and self._next < len(self._due):
            now = max(now, self._due[self._next])
        self.arrive(now)
        return now

    def arrive(self, now: float) -> None:
        while self._next < len(self._due) and self._due[self._next] <= now:
            if len(self.waiting) < MAX_QUEUE:
                self.waiting.append(self._next)
            else:
                self._latencies[self._next] = float("inf")
            self._next += 1

    def ends(self, number: int, now: float) -> None:
        self._latencies[number] = now - self._due[number]


def in_flight(
    due: Sequence[float], steps: Sequence[int], costs: Costs, slots: int = SLOTS
) -> list[float]:
    """Latencies where a request steps from the next step on and leaves when it is done."""
    latencies = [0.0] * len(due)
    queue = _Queue(due, latencies)
    running: list[tuple[int, int]] = []  # the step after which it ends, its number
    now, done = 0.0, 0
    while True:
        if running:
            queue.arrive(now)
        else:
            now = queue.wait(now)
        while queue.waiting and len(running) < slots:
            number = queue.waiting.popleft()
            heapq.heappush(running, (done + steps[number], number))
        if not running:
            return latencies
        now += step_cost(costs, len(running))
        done += 1
        while running and running[0][0] <= done:
            queue.ends(heapq.heappop(running)[1], now)


def whole_generations(
    due: Sequence[float], steps: Sequence[int], costs: Costs, slots: int = SLOTS
) -> list[float]:
    """Latencies where up to ``slots`` waiting requests step together until the longest is done."""
    latencies = [0.0] * len(due)
    queue = _Queue(due, latencies)
    now = 0.0
    while True:
        now = queue.wait(now)
        taken = [queue.waiting.popleft() for _ in range(min(slots, len(queue.waiting)))]
        if not taken:
            return latencies
        now += max(steps[number] for number in taken) * step_cost(costs, len(taken))
        for number in taken:
            queue.ends(number, now)


def one_at_a_time(
    due: Sequence[float], steps: Sequence[int], costs: Costs, slots: int = SLOTS
) -> list[float]:
    """Latencies where each request has the network for itself, in the order that they came."""
    return whole_generations(due, steps, costs, 1)


POLICIES: Mapping[str, Callable[[Sequence[float], Sequence[int], Costs, int], list[float]]] = {
    IN_FLIGHT: in_flight,
    WHOLE: whole_generations,
    ALONE: one_at_a_time,
}


def saturation(policy: str, steps: Sequence[int], costs: Costs, slots: int = SLOTS) -> float:
    """Requests a second with a backlog at all times.

    Args:
        policy: Of ``POLICIES``.
        steps: Of the requests, a whole number of batches.
        costs: Of a step.
        slots: Requests that step together.
    """
    if policy == IN_FLIGHT:
        return len(steps) * slots / (sum(steps) * step_cost(costs, slots))
    together = slots if policy == WHOLE else 1
    batches = [steps[k : k + together] for k in range(0, len(steps), together)]
    return len(steps) / (sum(map(max, batches)) * step_cost(costs, together))
