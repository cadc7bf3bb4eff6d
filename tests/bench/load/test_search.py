"""The search for the highest rate that holds."""

import numpy as np
import pytest
from fake_queue import FakeQueue

from revstep.bench.load.arrivals import poisson_arrivals
from revstep.bench.load.load import Load, run_load
from revstep.bench.load.search import highest_rate
from revstep.bench.load.verdict import Limit, verdict_of


def judged(holds, tried):
    def judge(rate):
        tried.append(rate)
        return "holds" if holds(rate) else "missed"

    return judge


@pytest.mark.parametrize("first", [0.01, 1.0, 7.0, 90.0, 5000.0])
def test_it_finds_a_known_capacity_from_anywhere(first):
    tried = []
    found = highest_rate(judged(lambda rate: rate <= 40.0, tried), first, 0.5, 1000.0)
    assert 40.0 / 1.05 <= found <= 40.0
    assert found in tried
    assert min(tried) >= 0.5
    assert max(tried) <= 1000.0
    assert len(tried) <= 16


def test_the_ends_of_the_range_are_tried_and_not_crossed():
    tried = []
    assert highest_rate(judged(lambda rate: True, tried), 3.0, 1.0, 20.0) == 20.0
    assert tried == [3.0, 6.0, 12.0, 20.0]
    tried.clear()
    assert highest_rate(judged(lambda rate: False, tried), 3.0, 1.0, 20.0) is None
    assert tried == [3.0, 1.5, 1.0]


def test_undecided_does_not_hold():
    verdicts = {4.0: "holds", 8.0: "undecided"}
    found = highest_rate(lambda rate: verdicts.get(rate, "undecided"), 4.0, 1.0, 8.0)
    assert found == 4.0


def test_the_rate_that_it_finds_is_that_of_a_queue_whose_percentile_is_known():
    """A queue of 10 ms a request: what its p99 is at a rate, Lindley's recursion says."""
    limit, sent = Limit(0.08), []

    def judge(rate):
        queue = FakeQueue(0.01)
        load = Load(rate=rate, seconds=60.0, seed=2)
        replies = run_load(
            queue.send, lambda count, seed: [b""] * count, load, limit, queue.clock, queue.rest
        )
        sent.append((rate, replies.stopped, len(replies.ended), load.count))
        return verdict_of(replies, limit)

    found = highest_rate(judge, 30.0, 10.0, 10_000.0)
    assert found is not None
    assert p99_of_queue(found, 0.01) <= limit.seconds
    assert p99_of_queue(1.25 * found, 0.01) > limit.seconds
    over = [(ended, planned) for rate, stopped, ended, planned in sent if rate > 100.0]
    assert over
    assert all(ended < planned / 10 for ended, planned in over)  # surely missed: no need to go on


def p99_of_queue(rate, service_s):
    """Of a million simulated requests; beyond what it can serve, it grows without end."""
    due = poisson_arrivals(rate, 1_000_000, 9)
    work = service_s * np.arange(1, len(due) + 1)
    ended = work + np.maximum.accumulate(due - (work - service_s))  # Lindley, unrolled
    return float(np.quantile(ended - due, 0.99))
