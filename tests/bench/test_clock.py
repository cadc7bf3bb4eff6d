"""Times of tasks that take turns."""

import pytest

from revstep.bench import clock
from revstep.bench.compare import meets, times_as_fast


def test_rounds_go_on_until_the_time_is_over_but_never_past_the_last():
    assert list(clock.rounds(60.0, 2, 4)) == [0, 1, 2, 3]
    assert list(clock.rounds(0.0, 3, 50)) == [0, 1, 2]


def test_runs_take_turns_and_wait_for_the_device_before_and_after():
    seen = []
    tasks = [lambda: seen.append("a"), lambda: seen.append("b")]
    times = clock.run_times(
        tasks, seconds=0.0, minimum=3, maximum=50, synchronize=lambda: seen.append("|")
    )
    assert [len(found) for found in times] == [3, 3]
    assert "".join(seen) == 3 * "|a||b|"


def test_calls_of_microseconds_are_made_many_times_per_round():
    calls = [0]

    def task():
        calls[0] += 1

    (times,) = clock.call_times([task], 4, seconds=1e-3)
    assert len(times) == 4
    assert calls[0] > 2 + 4 * 10
    assert 0.0 < max(times) < 1e-3


def test_percentiles_are_values_that_were_measured():
    found = clock.percentiles([5e-6, 1e-6, 3e-6, 2e-6, 4e-6])
    assert found == {
        "p20": pytest.approx(1.0), "p50": pytest.approx(3.0), "p80": pytest.approx(4.0),
        "rounds": 5,
    }  # fmt: skip


def test_a_ratio_is_that_of_the_medians():
    assert times_as_fast([1.0, 2.0, 9.0], [6.0, 5.0, 4.0]) == 2.5


def test_targets_are_judged_in_their_direction():
    assert meets(0.9, at_least=0.85) is meets(4.0, at_most=5.0) is True
    assert meets(0.84, at_least=0.85) is meets(5.01, at_most=5.0) is False
    assert meets(0.8) is meets(None, at_most=1.0) is None
