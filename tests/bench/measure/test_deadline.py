"""The most that fits a deadline, by a clock of our own."""

import numpy as np
import pytest

from revstep.bench.measure.deadline import judged, largest_that_fits


class Machine:
    """Runs that take ``seconds(number)``, with a share of slow ones."""

    def __init__(self, seconds, slow=0.0, factor=3.0):
        self.now, self.seconds, self.slow, self.factor = 0.0, seconds, slow, factor
        self.draw = np.random.default_rng(0)

    def __call__(self):
        return self.now

    def timed(self, number):
        def run():
            factor = self.factor if self.draw.random() < self.slow else 1.0
            self.now += factor * self.seconds(number)

        return run


@pytest.mark.parametrize(("deadline", "most"), [(0.0201, 20), (0.0015, 1), (1.0, 64), (0.0641, 64)])
def test_the_largest_number_is_found_by_halving(deadline, most):
    machine = Machine(lambda n: n * 1e-3)
    found, tried = largest_that_fits(
        machine.timed, deadline, 64, seconds=1e3, clock=machine
    )  # fmt: skip
    assert found == most
    assert len(tried) <= 13
    assert all(t.verdict == ("fits" if t.value <= most else "late") for t in tried)
    assert all(t.percent == 99 for t in tried if t.verdict == "fits")


def test_not_even_one_is_none():
    machine = Machine(lambda n: 1.0)
    found, tried = largest_that_fits(machine.timed, 0.5, 100, seconds=60.0, clock=machine)
    assert found is None
    assert [t.verdict for t in tried] == ["late"]


def test_slow_runs_in_the_tail_count():
    rare, often = Machine(lambda n: 1e-3, slow=0.001), Machine(lambda n: 1e-3, slow=0.05)
    assert judged(1, rare.timed(1), 0.002, 60.0, rare).verdict == "fits"
    found = judged(1, often.timed(1), 0.002, 60.0, often)
    assert found.verdict == "late"
    assert found.late > 0


def test_too_little_time_for_the_99th_is_judged_at_what_can_be_and_says_so():
    machine = Machine(lambda n: 1.0)
    found = judged(1, machine.timed(1), 2.0, 60.0, machine)
    assert (found.verdict, found.percent, found.runs) == ("fits", 90, 60)


def test_a_hopeless_number_is_given_up_after_a_few_runs():
    machine = Machine(lambda n: 100.0)
    found = judged(1, machine.timed(1), 1.0, 1e6, machine)
    assert (found.verdict, found.runs, found.late) == ("late", 2, 2)


def test_no_run_begins_after_its_time():
    machine = Machine(lambda n: 10.0)
    found = judged(1, machine.timed(1), 20.0, 25.0, machine)
    assert (found.verdict, found.runs, found.percent) == ("undecided", 3, None)


def test_a_run_is_prepared_outside_the_time():
    machine, prepared = Machine(lambda n: n * 1e-3), []

    def timed(number):
        prepared.append(number)
        machine.now += 1e6
        return machine.timed(number)

    found, _ = largest_that_fits(timed, 0.0035, 8, seconds=1e3, clock=machine)
    assert found == 3
    assert prepared == [1, 2, 4, 3]
