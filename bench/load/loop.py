"""An open loop: requests are sent when they are due, whatever the server does.

A latency counts from the schedule: a server that stalls is not excused for what would have come
meanwhile (Tene's "coordinated omission").
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from time import perf_counter, sleep
from typing import Any, Protocol, TypeVar

from revstep.bench.load.replies import Replies, Reply, Stopped
from revstep.engine.errors import QueueFullError

Ask = TypeVar("Ask")
Send = Callable[[Ask, Reply], object]
"""Sends a request without waiting for it: calls ``reply.goes`` and, from anywhere, ``ends``."""

PATIENCE_S = 1.0  # an arrival that is later than that is not sent
ANSWER_S = 120.0  # of waiting for a reply; then it counts as failed
GRACE_S = 5.0  # after Ctrl-C, for what is still awaited
POLL_S = 0.02  # at the end, between looks whether all have ended
NAP_S = 0.25  # at most, between two arrivals: by then it is looked whether it is enough


class Watch(Protocol):
    """What may end a load early."""

    def told(self, reply: Reply) -> None:
        """Called as a reply ends, in any thread."""

    def enough(self) -> bool:
        """Whether no more is to be sent."""


class _Counter:
    """How many have ended, and whom to tell."""

    def __init__(self, watch: Watch | None) -> None:
        self._watch = watch
        self._ended: list[None] = []  # appending is atomic

    def told(self, reply: Reply) -> None:
        if self._watch is not None:
            self._watch.told(reply)
        self._ended.append(None)

    @property
    def ended(self) -> int:
        return len(self._ended)

    @property
    def enough(self) -> bool:
        return self._watch is not None and self._watch.enough()


def open_loop(
    send: Send[Ask],
    asks: Sequence[Ask],
    due: Sequence[float],
    *,
    patience_s: float = PATIENCE_S,
    answer_s: float = ANSWER_S,
    grace_s: float = GRACE_S,
    watch: Watch | None = None,
    clock: Callable[[], float] = perf_counter,
    rest: Callable[[float], object] = sleep,
) -> Replies:
    """Sends requests when they are due, and waits for all replies. Ctrl-C keeps what there is.

    Args:
        send: Sends one.
        asks: The requests.
        due: Seconds from now, ascending.
        patience_s: A request that is later than that is not sent.
        answer_s: Of waiting after the last one; what is still awaited then is a timeout.
        grace_s: Of waiting after Ctrl-C; a second one doesn't wait.
        watch: Ends it early.
        clock: Gives seconds.
        rest: Waits for seconds.

    Returns:
        The replies; those of a load that was stopped or interrupted up to the first that was still
        awaited.
    """
    count = _Counter(watch)
    replies: list[Reply] = []
    stopped: Stopped = "ended"
    try:
        begun = clock()
        for ask, at in zip(asks, due, strict=True):
            if count.enough or not _until(begun + at, count, clock, rest):
                stopped = "missed"
                break
            reply = Reply(at, begun, patience_s, clock, count.told)
            replies.append(reply)
            send(ask, reply)
        give_up = clock() + answer_s
        while count.ended < len(replies) and clock() < give_up and stopped == "ended":
            rest(POLL_S)
            stopped = "missed" if count.enough else stopped
    except KeyboardInterrupt:
        stopped = "interrupted"
        with contextlib.suppress(KeyboardInterrupt):
            give_up = clock() + grace_s
            while count.ended < len(replies) and clock() < give_up:
                rest(POLL_S)
    if stopped != "ended":
        awaited = (k for k, reply in enumerate(replies) if reply.outcome is None)
        kept = replies[: next(awaited, len(replies))]
        for reply in replies[len(kept) :]:
            reply.ends("failed", "broken off")  # and those that wait to be sent are not
        return Replies(kept, len(asks), stopped)
    for reply in replies:
        reply.ends("timeout", f"no reply {answer_s:g} s after the last request")
    return Replies(replies, len(asks), stopped)


def _until(
    at: float, count: _Counter, clock: Callable[[], float], rest: Callable[[float], object]
) -> bool:
    """Waits until then; False: it is enough before that."""
    while (left := at - clock()) > 0.0:
        rest(min(left, NAP_S))
        if left > NAP_S and count.enough:
            return False
    return True


def submitting(submit: Callable[[Ask], Future[Any]]) -> Send[Ask]:
    """What sends to a server in this process, which takes a request or raises ``QueueFullError``.

    Args:
        submit: Gives the future of a request.
    """

    def send(ask: Ask, reply: Reply) -> None:
        def ended(future: Future[Any]) -> None:
            failed = future.cancelled() or future.exception() is not None
            reply.ends("failed" if failed else "answered")

        if not reply.goes():
            return
        try:
            submit(ask).add_done_callback(ended)
        except QueueFullError:
            reply.ends("refused")

    return send
