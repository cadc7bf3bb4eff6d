"""Who goes next and for how long, apart from threads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from revstep.engine.service.schedule import fitting, retry_after_s, steps_ahead, turn_key


@pytest.mark.parametrize(
    ("rows", "first", "free_slots", "free_rows", "lot", "fits"),
    [
        ([1], 0, 16, 16, 16, 1),
        ([2], 0, 16, 1, 16, 0),  # a guided sample takes two rows
        ([2, 2, 2], 0, 16, 5, 16, 2),
        ([1, 2, 1, 2], 0, 16, 4, 16, 3),
        ([1, 2, 1, 2], 1, 16, 4, 16, 2),
        ([1] * 40, 30, 16, 16, 16, 10),
        ([1] * 40, 0, 3, 16, 16, 3),
        ([1] * 40, 0, 16, 16, 5, 5),
        ([1], 1, 16, 16, 16, 0),
        ([1], 0, 0, 16, 16, 0),
    ],
)
def test_as_many_samples_as_there_is_room_for(rows, first, free_slots, free_rows, lot, fits):
    assert fitting(rows, first, free_slots, free_rows, lot) == fits


@given(
    st.lists(st.sampled_from([1, 2]), min_size=1, max_size=40),
    st.integers(0, 39), st.integers(0, 20), st.integers(0, 20), st.integers(1, 20),
)  # fmt: skip
def test_what_fits_fits_and_one_more_would_not(rows, first, free_slots, free_rows, lot):
    count = fitting(rows, first, free_slots, free_rows, lot)
    assert 0 <= count <= max(0, len(rows) - first)
    assert count <= min(free_slots, lot)
    assert sum(rows[first : first + count]) <= free_rows
    more = count + 1
    if first + more <= len(rows) and more <= min(free_slots, lot):
        assert sum(rows[first : first + more]) > free_rows


def test_the_higher_priority_goes_first_and_else_who_came_first():
    assert turn_key(5.0, 1, 1.0) < turn_key(4.5, 0, 1.0) < turn_key(4.6, 0, 1.0)


def test_whoever_waits_long_enough_goes_before_any_priority():
    old, new = turn_key(0.0, 0, 0.5), turn_key(10.1, 20, 0.5)
    assert old < new
    assert turn_key(9.9, 20, 0.5) < old


@pytest.mark.parametrize(
    ("next_end", "next_look", "step_s", "at_once", "steps"),
    [
        (30, None, 10e-6, True, 20),
        (7, None, 10e-6, True, 7),
        (30, 3, 10e-6, True, 3),
        (30, None, 1e-3, True, 1),  # a step longer than a turn
        (30, None, 0.0, True, 1),  # not known yet
        (30, None, 10e-6, False, 1),  # the device queues steps itself
    ],
)
def test_small_steps_run_together(next_end, next_look, step_s, at_once, steps):
    assert steps_ahead(next_end, next_look, step_s, 200e-6, at_once=at_once) == steps


@pytest.mark.parametrize(
    ("work", "rate", "s"), [(0, 10, 1), (500, 100, 5), (9e9, 1, 60), (5, 0, 1)]
)
def test_a_full_queue_says_when_to_come_back(work, rate, s):
    assert retry_after_s(work, rate) == s
