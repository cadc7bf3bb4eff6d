"""Load: a closed loop, which always has a backlog; the open one is ``revstep.bench.load.loop``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import perf_counter
from typing import Any

from revstep.bench.load.loop import ANSWER_S
from suites.service.asks import Ask

Submit = Callable[[Ask], "Future[Any]"]


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
