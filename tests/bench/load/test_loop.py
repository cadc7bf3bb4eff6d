"""The open loop, in simulated time and against futures."""

import math
from concurrent.futures import Future

import numpy as np
import pytest
from fake_queue import FakeQueue

from revstep.bench.load.arrivals import poisson_arrivals
from revstep.bench.load.loop import open_loop, submitting
from revstep.engine.errors import QueueFullError


def loop(queue, due, **options):
    return open_loop(
        queue.send, range(len(due)), due, clock=queue.clock, rest=queue.rest, **options
    )


def waits(due, service_s):
    """Lindley's recursion: latencies of a queue that serves one after the other."""
    free, found = 0.0, []
    for at in due:
        free = max(free, at) + service_s
        found.append(free - at)
    return found


def test_latencies_of_a_queue_are_those_of_lindleys_recursion():
    due = poisson_arrivals(80.0, 2000, 5).tolist()
    replies = loop(FakeQueue(0.01), due)
    assert replies.latencies == pytest.approx(waits(due, 0.01))
    assert replies.counts["answered"] == 2000
    assert max(replies.late) == pytest.approx(0.0, abs=1e-9)


def test_a_stall_of_a_second_is_seen_by_all_that_were_due_in_it():
    due = np.arange(0.005, 10.0, 0.01).tolist()  # 100 a second
    replies = loop(FakeQueue(0.001, stalls=[(4.0, 5.0)]), due)
    slow = [reply for reply in replies.ended if reply.latency_s > 0.1]
    assert len(slow) >= 90  # a closed loop would have seen one
    for reply in replies.ended:
        if 4.0 < reply.due_s < 5.0:
            assert reply.latency_s >= 5.0 - reply.due_s


def test_a_server_that_holds_the_sender_up_is_not_excused_for_it():
    due = np.arange(0.005, 10.0, 0.01).tolist()
    replies = loop(FakeQueue(0.001, stalls=[(4.0, 4.9)], blocks=True), due)
    assert max(replies.late) == pytest.approx(0.9, abs=0.02)
    assert sum(latency > 0.1 for latency in replies.latencies) >= 80


def test_what_would_go_out_too_late_is_not_sent_and_stays_as_never_answered():
    due = np.arange(0.005, 10.0, 0.01).tolist()
    replies = loop(FakeQueue(0.001, stalls=[(4.0, 7.0)], blocks=True), due, patience_s=1.0)
    assert replies.counts["unsent"] == pytest.approx(200, abs=2)
    assert sum(map(math.isinf, replies.latencies)) == replies.counts["unsent"]
    assert len(replies.ended) == len(due)


def test_refusals_stay_in():
    due = poisson_arrivals(200.0, 1000, 5).tolist()
    replies = loop(FakeQueue(0.01, max_queue=8), due)
    assert replies.counts["refused"] + replies.counts["answered"] == 1000
    assert replies.counts["refused"] == pytest.approx(500, abs=50)  # twice what it can
    assert sum(map(math.isinf, replies.latencies)) == replies.counts["refused"]
    assert replies.reasons == {"503 QueueFullError": replies.counts["refused"]}


def test_what_has_no_reply_by_the_end_is_a_timeout():
    queue = FakeQueue(0.01)
    queue.send = lambda ask, reply: reply.goes()
    replies = loop(queue, [0.1, 0.2], answer_s=5.0)
    assert replies.counts["timeout"] == 2
    assert queue.now == pytest.approx(5.2, abs=0.1)


def test_enough_stops_it_before_the_first_that_is_still_awaited():
    class Watch:
        ended = 0

        def told(self, reply):
            self.ended += 1

        def enough(self):
            return self.ended >= 3

    due = np.arange(0.0, 10.0, 0.01).tolist()
    replies = loop(FakeQueue(0.1), due, watch=Watch())
    assert replies.stopped == "missed"
    assert len(replies.ended) == 3
    assert replies.planned == 1000


def test_an_interrupt_keeps_what_was_answered_and_nothing_more_is_sent():
    queue, sent = FakeQueue(0.01), []

    def send(ask, reply):
        if ask == 5:
            raise KeyboardInterrupt
        sent.append(reply)
        queue.send(ask, reply)

    due = [0.1 * k for k in range(1, 20)]
    replies = open_loop(send, range(19), due, clock=queue.clock, rest=queue.rest)
    assert replies.stopped == "interrupted"
    assert replies.counts["answered"] == len(replies.ended) == len(sent) == 5


def test_one_that_waits_to_be_sent_when_it_is_stopped_is_not():
    waiting = []

    def send(ask, reply):
        waiting.append(reply)
        if ask == 1:
            raise KeyboardInterrupt

    queue = FakeQueue(0.01)
    replies = open_loop(send, range(2), [0.1, 0.2], clock=queue.clock, rest=queue.rest)
    assert not replies.ended
    assert [reply.goes() for reply in waiting] == [False, False]


def test_futures_are_answered_refused_or_failed():
    def submit(ask):
        if ask == 0:
            raise QueueFullError("full")
        future = Future()
        if ask == 1:
            future.set_exception(ValueError("no"))
        elif ask == 2:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_result(ask)
        return future

    queue = FakeQueue(0.01)
    replies = open_loop(submitting(submit), range(4), [0.0] * 4, clock=queue.clock, rest=queue.rest)
    assert [r.outcome for r in replies.ended] == ["refused", "failed", "failed", "answered"]
    assert [math.isinf(x) for x in replies.latencies] == [True, True, True, False]
