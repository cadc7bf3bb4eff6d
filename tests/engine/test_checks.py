"""A wrong argument is answered with what was got, what is allowed, and its name."""

import copy
import math
import pickle

import numpy as np
import pytest

from revstep.engine import checks
from revstep.engine.errors import ArgumentError, ArgumentTypeError, BackendError
from revstep.engine.message import Argument, Message


@pytest.mark.parametrize("value", [True, np.True_, 1.0, np.float32(1), "1", None, [1]])
def test_only_whole_numbers_are_whole_numbers(value):
    with pytest.raises(TypeError, match=r"^n must be a whole number") as caught:
        checks.check_whole(value, "n", numpy=True)
    assert caught.value.argument == "n"


def test_numpys_numbers_are_taken_only_where_they_may_be():
    taken = checks.check_whole(np.int64(3), "n", 1, 3, numpy=True)
    assert (taken, type(taken)) == (3, int)
    assert checks.check_number(np.float32(0.5), "x", 0.0, 1.0, numpy=True) == 0.5
    assert checks.check_bool(np.True_, "b", numpy=True) is True
    for check in (checks.check_whole, checks.check_number, checks.check_bool):
        with pytest.raises(TypeError, match="of Python's own; got"):
            check(np.int64(3), "n")


@pytest.mark.parametrize(
    ("low", "high", "value", "message"),
    [
        (1, None, 0, "n=0 is out of range; allowed: whole numbers, 1 or more"),
        (0, 9, 10, "n=10 is out of range; allowed: whole numbers, 0 to 9, today"),
        (0, 9, -1, "n=-1 is out of range; allowed: whole numbers, 0 to 9, today"),
    ],
)
def test_whole_numbers_out_of_range_name_the_ends(low, high, value, message):
    with pytest.raises(ValueError, match="out of range") as caught:
        checks.check_whole(value, "n", low, high, more=", today" if high else "")
    assert str(caught.value) == message
    assert caught.value.argument == "n"


@pytest.mark.parametrize(
    ("ends", "options", "value", "message"),
    [
        ((0.0, 1.0), {}, 1.5, r"x=1.5 is out of range; it lies in \[0, 1\]"),
        ((0.0, 1.0), {"above": True}, 0.0, r"x=0.0 is out of range; it lies in \(0, 1\]"),
        ((0.0,), {}, -1, r"x=-1 is out of range; it lies in \[0, infinity\)"),
        ((0.0, 1.0), {}, math.nan, "x=nan is out of range"),
        ((), {"finite": True}, math.inf, "x must be finite; got inf"),
        ((), {}, True, "x must be a number; got bool True"),
        ((), {}, "a" * 99, "x must be a number; got str 'aaa"),
    ],
)
def test_numbers_out_of_range_name_the_interval(ends, options, value, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        checks.check_number(value, "x", *ends, **options)
    assert caught.value.argument == "x"
    assert len(str(caught.value)) < 120


def test_numbers_in_range_come_back_as_they_are():
    assert checks.check_number(1, "x", 0.0, 1.0, above=True) == 1
    assert checks.check_number(math.inf, "x", 0.0) == math.inf


@pytest.mark.parametrize("value", ["tow", 2, None, ["two"], {}])
def test_a_name_that_is_none_of_them_is_answered_with_all(value):
    with pytest.raises(ValueError, match=r"unknown size .*allowed: one, two or None") as caught:
        checks.check_one_of(value, "size", ("one", "two"), " or None")
    assert caught.value.argument == "size"


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.check_function(3, "progress"), "progress must be a function or None"),
        (lambda: checks.check_mapping([1], "conditions", "{}"), "conditions maps names to values"),
        (lambda: checks.check_sequence(3, "levels", "numbers"), "levels must be numbers; got int"),
        (lambda: checks.check_sequence("abc", "levels", "numbers"), "got str 'abc'"),
        (lambda: checks.check_type(3, "spec", str, "a text"), "spec must be a text; got int 3"),
        (lambda: checks.check_bool(1, "clip"), "clip must be True or False; got int 1"),
    ],
)
def test_a_value_of_another_type_is_told_what_is_allowed(check, message):
    with pytest.raises(ArgumentTypeError, match=message) as caught:
        check()
    assert caught.value.argument == message.split()[0] or message.startswith("got")


@pytest.mark.parametrize("shape", [(3, 0), (2.0,), (True,), (-1,), (), (1 << 16, 1 << 16)])
def test_a_shape_has_positive_whole_sizes_that_fit_memory(shape):
    with pytest.raises(ValueError, match="shape"):
        checks.check_shape(shape, "shape", empty=False)
    checks.check_shape((), "shape", empty=True)
    checks.check_shape((3, 2), "shape", empty=False)


def test_only_a_name_is_an_argument():
    with pytest.raises(ArgumentError) as caught:
        checks.check_number("a", "the decoder's scale")
    assert caught.value.argument == ""


def test_an_error_of_a_type_is_both_builtins():
    error = ArgumentTypeError("no", "steps")
    assert isinstance(error, TypeError)
    assert isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.argument) == (ArgumentTypeError, "no", "steps")


def test_a_message_is_pythons_words_and_can_be_spelled_in_others():
    message = Message("no GPU; use ", Argument("device", "cpu"), " or ", Argument("conditions", {}))
    assert message == "no GPU; use device='cpu' or conditions={...}"
    assert str(BackendError(message)) == message
    for again in (message, copy.copy(message), pickle.loads(pickle.dumps(message))):
        assert again.spelled(lambda a: f"<{a.name}>") == "no GPU; use <device> or <conditions>"
    assert str(Argument("start")) == "start"
    assert str(Argument("conditions", {"seen": [1, 2]})) == "conditions={'seen': ...}"
