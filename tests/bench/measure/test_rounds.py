"""Rounds of tasks in turns, by a clock of our own."""

import pytest

from revstep.bench.measure import rounds
from revstep.bench.measure.rounds import Budget, Task, run_rounds
from revstep.errors import ArgumentError


class Hands:
    """A clock that tasks move."""

    def __init__(self):
        self.now = 0.0
        self.seen = []

    def __call__(self):
        return self.now

    def task(self, name, seconds):
        def run(number):
            self.seen.append((name, number))
            self.now += seconds(number) if callable(seconds) else seconds

        return Task(name, run)


def test_tasks_take_turns_and_who_goes_first_changes():
    hands = Hands()
    tasks = [hands.task("a", 1.0), hands.task("b", 2.0)]
    found = run_rounds(tasks, Budget(seconds=1.0, least=2, warm_up=0.0), clock=hands)
    assert hands.seen == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert found.times == [[1.0, 1.0], [2.0, 2.0]]
    assert (found.stopped, found.warm_ups) == ("seconds", 1)


def test_it_ends_once_every_median_is_known():
    hands = Hands()
    wild = hands.task("wild", lambda n: 1.0 if n % 2 or n > 60 else 9.0)
    found = run_rounds([hands.task("calm", 1.0), wild], Budget(seconds=1e6), clock=hands)
    assert found.stopped == "converged"
    assert len(found.times[0]) > 60
    hands = Hands()
    found = run_rounds([hands.task("calm", 1.0)], Budget(seconds=1e6), clock=hands)
    assert len(found.times[0]) == 16  # the first time that it looks


def test_without_a_noise_to_reach_it_runs_to_its_end():
    hands = Hands()
    found = run_rounds([hands.task("calm", 1.0)], Budget(seconds=100.0, noise=0.0), clock=hands)
    assert (found.stopped, len(found.times[0])) == ("seconds", 100)
    found = run_rounds([hands.task("calm", 1.0)], Budget(runs=9, noise=0.0), clock=hands)
    assert (found.stopped, len(found.times[0])) == ("runs", 9)


def test_the_warm_up_is_not_counted():
    hands = Hands()
    task = hands.task("a", lambda n: 50.0 if n == 0 else 1.0)
    found = run_rounds([task], Budget(runs=8, warm_up=120.0), clock=hands)
    assert found.warm_ups == 3
    assert set(found.times[0]) == {1.0}


def test_ctrl_c_keeps_the_whole_rounds():
    hands = Hands()

    def stop(number):
        if number == 5:
            raise KeyboardInterrupt
        hands.now += 1.0

    tasks = [hands.task("a", 1.0), Task("b", stop)]
    found = run_rounds(tasks, Budget(seconds=100.0), clock=hands)
    assert found.stopped == "interrupted"
    assert [len(times) for times in found.times] == [4, 4]


def test_ctrl_c_between_the_rounds_keeps_them_too():
    hands = Hands()

    def stop(done, total):
        if len(hands.seen) == 4:
            raise KeyboardInterrupt

    found = run_rounds([hands.task("a", 1.0)], Budget(seconds=100.0), clock=hands, progress=stop)
    assert (found.stopped, found.times) == ("interrupted", [[1.0] * 3])


def test_many_values_are_looked_at_ever_more_rarely(monkeypatch):
    hands, looks = Hands(), []
    monkeypatch.setattr(rounds, "relative_noise", lambda values: looks.append(len(values)) or 1.0)
    run_rounds([hands.task("a", 1.0)], Budget(seconds=4000.0), clock=hands)
    assert looks[:3] == [16, 18, 21]
    assert len(looks) < 60


def test_ctrl_c_before_the_first_round_is_raised():
    def stop(number):
        if number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_rounds([Task("a", stop)], Budget(warm_up=0.0))


def test_what_goes_between_is_not_timed():
    hands = Hands()

    def between(number):
        hands.now += 100.0

    budget = Budget(seconds=1e6, runs=8)
    found = run_rounds([hands.task("a", 1.0)], budget, between=between, clock=hands)
    assert set(found.times[0]) == {1.0}


def test_progress_ends_full_and_never_falls():
    hands, seen = Hands(), []
    run_rounds(
        [hands.task("a", 1.0)], Budget(seconds=10.0, noise=0.0), clock=hands,
        progress=lambda *state: seen.append(state),
    )  # fmt: skip
    assert seen == sorted(seen)
    assert seen[-1] == (1000, 1000)


def test_openings_share_a_budget_whole():
    shares = Budget(seconds=30.0, runs=12, warm_up=0.1).shares(5)
    assert [share.runs for share in shares] == [3, 3, 2, 2, 2]
    assert [share.least for share in shares] == [2, 2, 2, 1, 1]
    assert {(share.seconds, share.warm_up) for share in shares} == {(6.0, 0.1)}
    assert [share.least for share in Budget().shares(10)] == [1] * 10
    assert Budget(runs=8).shares(1) == [Budget(runs=8)]


@pytest.mark.parametrize("openings", [0, 9])
def test_each_opening_has_a_run_at_least(openings):
    with pytest.raises(ArgumentError, match=f"openings={openings} must be from 1 to .*, 8"):
        Budget(runs=8).shares(openings)


@pytest.mark.parametrize(
    "wrong", [{"seconds": 0.0}, {"noise": -0.1}, {"noise": 1.0}, {"runs": 7}, {"least": 0}]
)
def test_a_budget_out_of_range_is_refused(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong)) if "least" not in wrong else "runs"):
        Budget(**wrong)
