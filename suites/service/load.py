"""Load: an open loop of scheduled arrivals, and a closed one that always has a backlog.

An open loop sends at the scheduled times, whatever the server does, and a latency counts from the
schedule: a server that stalls is not excused for what would have come meanwhile (Tene's
"coordinated omission").
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import perf_counter, sleep
from typing import Any

from revstep.engine.errors import QueueFullError
from suites.service.asks import Ask

Submit = Callable[[Ask], "Future[Any]"]

PATIENCE_S = 1.0  # an arrival that is later than that is not sent
ANSWER_S = 120.0  # of waiting for a reply; then it counts as failed


@dataclasses.dataclass
class Replies:
    """What became of scheduled arrivals.

    Attributes:
        latencies: Seconds from the scheduled arrival to the reply, in the arrivals' order;
            infinity where there was none.
        late: Seconds from the scheduled arrival to its sending, of those that were sent.
        refused: Arrivals that the server refused.
        unsent: Arrivals that could not be sent in time.
        failed: Arrivals that were taken and got no result.
    """

    latencies: list[float]
    late: list[float]
    refused: int = 0
    unsent: int = 0
    failed: int = 0


def open_loop(submit: Submit, asks: Sequence[Ask], due: Sequence[float]) -> Replies:
    """Sends requests when they are due, and waits for all replies.

    Args:
        submit: Takes a request, or raises ``QueueFullError``.
        asks: The requests.
        due: Seconds from now, ascending.
    """
    ended: dict[int, tuple[float, bool]] = {}
    replied = threading.Semaphore(0)

    def reply_to(number: int) -> Callable[[Future[Any]], None]:
        def reply(future: Future[Any]) -> None:
            ended[number] = perf_counter(), not future.cancelled() and not future.exception()
            replied.release()

        return reply

    replies = Replies([float("inf")] * len(asks), [])
    taken = 0
    begun = perf_counter()
    for number, (ask, at) in enumerate(zip(asks, due, strict=True)):
        while (left := begun + at - perf_counter()) > 0.0:
            sleep(left)
        if left < -PATIENCE_S:
            replies.unsent += 1
            continue
        replies.late.append(-left)
        try:
            submit(ask).add_done_callback(reply_to(number))
        except QueueFullError:
            replies.refused += 1
            continue
        taken += 1
    give_up = perf_counter() + ANSWER_S
    for _ in range(taken):
        if not replied.acquire(timeout=max(0.0, give_up - perf_counter())):
            break
    for number, (at, well) in dict(ended).items():
        if well:
            replies.latencies[number] = at - begun - due[number]
    replies.failed = taken - sum(well for _, well in ended.values())
    return replies


def closed_loop(
    submit: Submit, asks: Sequence[Ask], backlog: int, *, uncounted: int
) -> tuple[float, int]:
    """Seconds that requests took, with always ``backlog`` of them queued or running, and how many.

    Args:
        submit: Takes a request.
        asks: The requests.
        backlog: More than the server runs at once, and no more than it takes.
        uncounted: The first replies, while the server fills; the last ``backlog`` are not counted
            either, while it empties.

    Raises:
        Exception: That of a request that failed.
        TimeoutError: No reply for long.
    """
    ended: list[float] = []
    errors: list[BaseException] = []
    room = threading.Semaphore(backlog)

    def reply(future: Future[Any]) -> None:
        ended.append(perf_counter())
        if (error := future.exception()) is not None:
            errors.append(error)
        room.release()

    for ask in asks:
        _acquired(room)
        submit(ask).add_done_callback(reply)
    for _ in range(backlog):
        _acquired(room)
    if errors:
        raise errors[0]
    counted = len(asks) - backlog  # from then on nobody follows
    first, last = ended[uncounted - 1], ended[counted - 1]
    return last - first, counted - uncounted


def _acquired(room: threading.Semaphore) -> None:
    if not room.acquire(timeout=ANSWER_S):
        raise TimeoutError(f"no reply in {ANSWER_S:g} s")
