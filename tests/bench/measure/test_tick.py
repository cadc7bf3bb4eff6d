"""Ticks of a control loop, by a clock of our own."""

import pytest

from revstep.bench.measure.tick import Ticks, run_ticks


class Hands:
    def __init__(self, seconds):
        self.now, self.seconds, self.begun = 0.0, list(seconds), []

    def __call__(self):
        self.now += 1e-9  # a clock that is asked moves on
        return self.now

    def rest(self, seconds):
        self.now += seconds

    def run(self, number):
        self.begun.append(round(self.now, 3))
        self.now += self.seconds.pop(0)


def ticks(seconds, tick, count):
    hands = Hands([0.0, *seconds])  # the first warms up
    return run_ticks(hands.run, tick, count, clock=hands, rest=hands.rest), hands


def test_runs_begin_at_their_ticks_however_short_they_are():
    found, hands = ticks([0.01, 0.04, 0.001, 0.02], 0.05, 4)
    assert hands.begun[1:] == [0.05, 0.1, 0.15, 0.2]
    assert found.missed == [False] * 4
    assert found.summary()["longest_misses"] == 0


def test_a_long_run_misses_its_tick_and_those_that_begin_meanwhile():
    found, hands = ticks([0.01, 0.13, 0.01, 0.06, 0.01], 0.05, 7)
    assert [None if t is None else round(t, 3) for t in found.latencies] == [
        0.01, 0.13, None, None, 0.01, 0.06, None,
    ]  # fmt: skip
    assert hands.begun[1:] == [0.05, 0.1, 0.25, 0.3]
    summary = found.summary()
    assert (summary["ticks"], summary["misses"], summary["skipped"]) == (7, 5, 3)
    assert summary["longest_misses"] == 3


def test_the_count_bounds_what_a_last_long_run_skips():
    found, _ = ticks([0.01, 9.0], 0.05, 3)
    assert len(found.latencies) == 3


def test_percentiles_are_of_the_runs_that_were_made():
    summary = Ticks(1.0, (0.5,) * 60 + (None,)).summary()
    assert set(summary["percentiles"]) == {"p50", "p90"}


def test_ctrl_c_keeps_the_ticks_so_far():
    hands = Hands([0.0, 0.01, 0.01])
    inner = hands.run

    def run(number):
        if len(hands.begun) == 3:
            raise KeyboardInterrupt
        inner(number)

    found = run_ticks(run, 0.05, 100, clock=hands, rest=hands.rest)
    assert len(found.latencies) == 2
    with pytest.raises(KeyboardInterrupt):
        run_ticks(lambda n: (_ for _ in ()).throw(KeyboardInterrupt), 0.05, 3)
