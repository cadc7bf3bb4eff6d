"""Slices of time, and drift."""

import numpy as np
from fake_queue import FakeQueue

from revstep.bench.load.loop import open_loop
from revstep.bench.load.slices import drift_of, slices_of


def ended(service_s, rate, seconds, **options):
    queue = FakeQueue(service_s, **options)
    due = (np.arange(round(rate * seconds)) / rate).tolist()
    return open_loop(queue.send, due, due, clock=queue.clock, rest=queue.rest).ended


def test_each_request_is_in_the_slice_in_which_it_is_due():
    found = slices_of(ended(0.001, 100.0, 10.0, stalls=[(4.0, 5.0)]), 10.0)
    assert [part["due"] for part in found] == [100] * 10
    assert [part["sent_per_s"] for part in found] == [100.0] * 10
    medians = [part["percentiles"]["p50"]["value"] for part in found]
    assert medians[4] > 0.4
    assert max(medians[:4] + medians[6:]) < 0.01


def test_a_percentile_that_a_slice_does_not_support_is_left_out():
    found = slices_of(ended(0.001, 10.0, 10.0), 10.0)
    assert all(set(part["percentiles"]) == {"p50"} for part in found)
    assert all("p99" not in part["percentiles"] for part in found)


def test_failures_are_told_by_slice():
    found = slices_of(ended(0.1, 20.0, 10.0, max_queue=10), 10.0)
    assert found[0]["failures"] <= 1  # until the queue is full
    assert all(part["failures"] == 10 for part in found[3:])


def test_a_queue_that_grows_is_drift():
    assert drift_of(ended(0.011, 100.0, 20.0)).growing
    refusing = drift_of(ended(0.1, 100.0, 20.0, max_queue=10))
    assert not drift_of(ended(0.009, 100.0, 20.0)).growing
    assert refusing.last_s is None  # most are refused, first and last
    assert not refusing.growing
    assert not drift_of(ended(0.001, 10.0, 1.0)).growing  # too few to say
