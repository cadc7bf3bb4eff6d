"""Whether a percentile holds."""

import math

import numpy as np
import pytest
from fake_queue import FakeQueue

from revstep.bench.load.load import Load, run_load
from revstep.bench.load.replies import Replies, Reply
from revstep.bench.load.verdict import Limit, Misses, verdict_of
from revstep.bench.stats.percentiles import supported

LIMIT = Limit(0.1)


def replies_of(latencies, stopped="ended"):
    now = [0.0]
    ended = []
    for k, latency in enumerate(latencies):
        reply = Reply(float(k), 0.0, 1.0, lambda: now[0], lambda reply: None)
        now[0] = float(k)
        assert reply.goes()
        now[0] = k + (0.0 if math.isinf(latency) else latency)
        reply.ends("refused" if math.isinf(latency) else "answered")
        ended.append(reply)
    return Replies(ended, len(ended), stopped)


def test_the_interval_of_the_percentile_decides():
    draw = np.random.default_rng(1)
    times = draw.uniform(0.01, 0.09, 1000)
    assert verdict_of(replies_of(times), LIMIT) == "holds"
    for late, verdict in ((2, "holds"), (10, "undecided"), (40, "missed")):
        some = times.copy()
        some[np.linspace(0, 999, late).astype(int)] = 0.2
        assert verdict_of(replies_of(some), LIMIT) == verdict


def test_what_was_never_answered_counts_as_late():
    times = [0.01] * 1000
    for k in range(0, 1000, 25):
        times[k] = math.inf
    assert verdict_of(replies_of(times), LIMIT) == "missed"


def test_too_few_or_interrupted_ones_are_undecided():
    assert verdict_of(replies_of([0.01] * 527), LIMIT) == "undecided"
    assert verdict_of(replies_of([0.01] * 528), LIMIT) == "holds"
    assert verdict_of(replies_of([0.01] * 528, "interrupted"), LIMIT) == "undecided"


def test_a_growing_queue_does_not_hold_though_its_percentile_does():
    queue = FakeQueue(0.0101)  # at 100 a second it falls behind by 1 % of the time
    draw = lambda count, seed: [b""] * count  # noqa: E731
    load, limit = Load(rate=110.0, seconds=10.0), Limit(20.0)
    replies = run_load(queue.send, draw, load, limit, queue.clock, queue.rest)
    assert supported(replies.latencies, 99)["high"] <= limit.seconds
    assert verdict_of(replies, limit) == "undecided"


@pytest.mark.parametrize("planned", [528, 1000, 5000])
def test_a_load_ends_early_exactly_when_the_rest_can_change_nothing(planned):
    watch, late = Misses(LIMIT, planned), 0
    slow = replies_of([0.2]).ended[0]
    while not watch.enough():
        watch.told(slow)
        late += 1
    missed = [0.2] * late + [0.01] * (planned - late)
    assert supported(missed, 99)["low"] > LIMIT.seconds
    assert supported([*missed[1:], 0.01], 99)["low"] <= LIMIT.seconds
