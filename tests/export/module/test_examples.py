import numpy as np
import pytest

from revstep import Condition
from revstep.export.module.examples import example_condition


def made(rows=8, **fields):
    return example_condition(Condition(name="c", **fields), rows, np.random.default_rng(0))


@pytest.mark.parametrize("length", [2, 4])
def test_masks_are_never_empty_nor_full_whichever_value_means_to_attend(length):
    value = made(32, shape=(length,), dtype="bool")
    assert value.dtype == bool
    assert value.any(axis=1).all()
    assert not value.all(axis=1).any()
    assert set(made(dtype="bool").tolist()) == {True, False}


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_the_null_value_is_the_last_of_several_rows(rows):
    value = made(rows, shape=(2,), null=[5.0, 6.0])
    assert (value == [5.0, 6.0]).all(axis=1).tolist() == [False] * (rows - 1) + [rows > 1]


def test_integers_walk_their_range():
    np.testing.assert_array_equal(made(classes=3, dtype="int32"), np.arange(8) % 3)
    value = made(limits=(5, 7), dtype="int64", shape=(2,))
    assert set(value.ravel().tolist()) == {5, 6, 7}
    assert not made(dtype="int64").any()


def test_a_users_rows_are_taken_in_turn():
    np.testing.assert_array_equal(made(5, example=[1.5, 2.5]), [1.5, 2.5, 1.5, 2.5, 1.5])
    value = made(3, shape=(2,), example=[1.0, 2.0])
    np.testing.assert_array_equal(value, [[1.0, 2.0]] * 3)
    assert value.flags.writeable
