"""Conditions of every dtype: null values and arrays, limits, examples, accepted values."""

import json

import numpy as np
import pytest
from specs import spec_of

from revstep import Condition, DenoiserSpec, Request
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.runtime.resolve import batch_of

PROMPT = np.random.default_rng(3).standard_normal((7, 16)).astype(np.float32)
DTYPES = ["bool", "int32", "int64", "float32", "float16", "bfloat16"]


def spec(*conditions):
    return spec_of(shape=(2,), conditions=conditions)


def given(condition, value, n=None):
    """What the network is fed of a condition's value."""
    batch = batch_of(spec(condition), Request(n=n, conditions={condition.name: value}))
    return batch.conditions[condition.name]


CONDITIONS = [
    *(Condition(name="c", dtype=dtype, shape=(2,), null=1) for dtype in DTYPES),
    Condition(name="mask", dtype="bool", shape=(3,), null=[True, False, False]),
    Condition(name="mask", dtype="bool", null=False),
    Condition(name="prompt", shape=(7, 16), null=PROMPT),
    Condition(name="prompt", dtype="float16", shape=(7, 16), null=PROMPT),
    Condition(name="tokens", dtype="int32", shape=(77,), null=[49406] + [49407] * 76),
    Condition(name="tokens", dtype="int64", shape=(2,), limits=(-1, 9)),
    Condition(name="label", dtype="int32", classes=4, null=3),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=repr)
def test_a_spec_is_the_same_after_json_and_hashes_alike(condition):
    before = spec(condition)
    after = DenoiserSpec.from_dict(json.loads(json.dumps(before.to_dict())))
    assert after == before
    assert hash(after) == hash(before)
    if condition.null is not None:
        np.testing.assert_array_equal(np.asarray(after.conditions[0].null), condition.null)


def test_conditions_with_another_null_array_differ():
    other = PROMPT.copy()
    other[3, 5] += 1
    one = Condition(name="prompt", shape=(7, 16), null=PROMPT)
    assert one == Condition(name="prompt", shape=(7, 16), null=PROMPT.tolist())
    assert one != Condition(name="prompt", shape=(7, 16), null=other)


def test_new_fields_are_written_only_where_they_say_something():
    plain = Condition(name="y", dtype="int64", null=10, classes=11)
    assert set(spec(plain).to_dict()["conditions"][0]) == {
        "name", "shape", "dtype", "null", "classes",
    }  # fmt: skip


ACCEPTED = [
    ("bool", [True, False], np.bool_, [True, False]),
    ("bool", [1, 0], np.bool_, [True, False]),
    ("bool", np.array([0, 1], np.uint8), np.bool_, [False, True]),
    ("int32", [3, -4], np.int32, [3, -4]),
    ("int32", np.array([3, 4], np.uint64), np.int32, [3, 4]),
    ("int64", np.array([3, -(2**63)]), np.int64, [3, -(2**63)]),
    ("float32", [3, 4], np.float32, [3, 4]),
    ("float32", np.array([0.1, 2], np.float16), np.float32, np.float16([0.1, 2])),
    ("float16", [0.1, 65504.0], np.float32, np.float32([0.1, 65504.0])),
    ("bfloat16", [0.1, 1e38], np.float32, np.float32([0.1, 1e38])),
]


@pytest.mark.parametrize(("dtype", "value", "kind", "want"), ACCEPTED)
def test_values_are_taken_without_a_change(dtype, value, kind, want):
    fed = given(Condition(name="c", dtype=dtype), value)
    assert fed.dtype == kind
    np.testing.assert_array_equal(fed, want)


REFUSED = [
    ("bool", [0.0, 1.0], TypeError, "'c' must be bools, or the integers 0 and 1; got float64"),
    ("bool", [0, 2], ValueError, "'c' holds 2; a bool is"),
    ("bool", [-1, 0], ValueError, "'c' holds -1; a bool is"),
    ("int32", [0.5], TypeError, "'c' must be integers; got float64"),
    ("int32", [True], TypeError, "'c' must be integers; got bool"),
    ("int32", [2**31], ValueError, r"'c' holds 2147483648; an integer is at most 2\^31 - 1"),
    ("int32", [-(2**31) - 1], ValueError, r"'c' holds -2147483649; an integer is at least -2\^31"),
    ("int64", np.array([2**63], np.uint64), ValueError, r"at most 2\^63 - 1"),
    ("float16", [65520.0], ValueError, "'c' holds 65520; a float16 is at most 65504"),
    ("bfloat16", [3.4e38], ValueError, "'c' holds 3.4e.38; a bfloat16 is at most 3.38953e.38"),
    ("float32", ["a"], TypeError, "'c' must be numbers"),
    ("float16", [np.nan], ValueError, "NaN or infinity"),
]


@pytest.mark.parametrize(("dtype", "value", "error", "message"), REFUSED)
def test_values_that_the_dtype_can_not_hold_are_refused_by_name(dtype, value, error, message):
    with pytest.raises(error, match=message):
        given(Condition(name="c", dtype=dtype), value)


def test_tensors_are_taken_in_every_dtype():
    torch = pytest.importorskip("torch")
    for dtype in DTYPES:
        kind = getattr(torch, dtype)
        value = torch.tensor([1, 0, 1]).to(kind)
        np.testing.assert_array_equal(given(Condition(name="c", dtype=dtype), value), [1, 0, 1])
    half = torch.tensor([0.1, 3.0], dtype=torch.bfloat16)
    for dtype in ("float32", "bfloat16"):
        np.testing.assert_array_equal(given(Condition(name="c", dtype=dtype), half), half.float())


def test_an_array_of_bfloat16_is_taken():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    value = np.array([0.1, 3.0], ml_dtypes.bfloat16)
    np.testing.assert_array_equal(given(Condition(name="c"), value), value.astype(np.float32))


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"null": [1.0, 2.0]}, ValueError, r"'c'.s null value has shape \(2,\); give a number"),
        ({"null": [1.0, np.inf, 0.0]}, ValueError, "null value holds NaN or infinity"),
        ({"null": ["a", "b", "c"]}, TypeError, "null value must be numbers"),
        ({"null": "0"}, TypeError, "null value must be a number"),
        ({"null": True}, TypeError, "null value must be a number; got bool"),
        ({"null": 0.5, "dtype": "int64"}, TypeError, "null value must be integers"),
        ({"null": 2, "dtype": "bool"}, ValueError, "null value holds 2"),
        ({"null": 2**31, "dtype": "int32"}, ValueError, "null value holds 2147483648"),
        ({"null": 7e4, "dtype": "float16"}, ValueError, "null value holds 70000"),
        ({"null": [1, 2, 9], "dtype": "int32", "classes": 9}, ValueError, "9; allowed: 0 to 8"),
        ({"classes": 3, "dtype": "bool"}, ValueError, "dtype is int64 or int32"),
        ({"limits": (0, 3)}, ValueError, "dtype is int64 or int32"),
        ({"limits": (3, 0), "dtype": "int32"}, ValueError, r"\(min, max\)"),
        ({"limits": (0,), "dtype": "int32"}, ValueError, r"\(min, max\)"),
        ({"limits": 3, "dtype": "int32"}, TypeError, r"\(min, max\)"),
        ({"limits": (0, 0.5), "dtype": "int32"}, TypeError, "whole number"),
        ({"limits": (0, 3), "dtype": "int32", "classes": 4}, ValueError, "no classes"),
        ({"limits": (1, 3), "dtype": "int32", "null": 0}, ValueError, "0; allowed: 1 to 3"),
        ({"example": [1.0, 2.0]}, ValueError, r"'c'.s example has shape \(2,\); give \(3,\)"),
        ({"example": 1.0}, ValueError, r"example has shape \(\)"),
        ({"example": np.zeros((0, 3))}, ValueError, "example has shape"),
        ({"example": [[0, 1, 9]], "dtype": "int64", "limits": (0, 8)}, ValueError, "example holds"),
    ],
)
def test_what_a_condition_can_not_be_is_refused_by_name(fields, error, message):
    with pytest.raises(error, match=message):
        Condition(**{"name": "c", "shape": (3,), **fields})


@pytest.mark.parametrize("value", [-1, 10])
def test_limits_are_checked_before_a_run(value):
    tokens = Condition(name="tokens", dtype="int32", shape=(3,), limits=(0, 9), null=0)
    with pytest.raises(ValueError, match=f"'tokens' holds {value}; allowed: 0 to 9"):
        given(tokens, [[0, value, 3]])
    with pytest.raises(ValueError, match=f"'tokens' holds {value}; allowed: 0 to 9"):
        batch_of(spec(tokens), Request(null_conditions={"tokens": [0, 0, value]}))


def test_the_null_array_is_the_unconditional_half_and_what_is_left_out():
    prompt = Condition(name="prompt", shape=(7, 16), null=PROMPT)
    assert spec(prompt).guidable
    request = Request(n=2, guidance=3.0, conditions={"prompt": PROMPT + 1})
    batch = batch_of(spec(prompt), request)
    np.testing.assert_array_equal(batch.null_conditions["prompt"], [PROMPT, PROMPT])
    without = batch_of(spec(prompt), Request(n=2))
    np.testing.assert_array_equal(without.conditions["prompt"], [PROMPT, PROMPT])


@pytest.mark.parametrize(
    ("condition", "want"),
    [
        (Condition(name="c", shape=(2,), null=[3.0, 4.0]), [3.0, 4.0]),
        (Condition(name="c", shape=(2,), dtype="bool", null=True), [True, True]),
        (Condition(name="c", shape=(2,), dtype="bfloat16", null=0.1), np.float32([0.1, 0.1])),
        (Condition(name="c", shape=(2,), dtype="int32", limits=(1, 9)), [1, 1]),
        (Condition(name="c", shape=(2,), dtype="int64", limits=(-9, -4)), [-4, -4]),
        (Condition(name="c", shape=(2,), example=[[5.0, 6.0], [7.0, 8.0]]), [5.0, 6.0]),
        (Condition(name="c", shape=(2,)), [0.0, 0.0]),
    ],
)
def test_unused_rows_hold_a_valid_value(condition, want):
    buffers = NetworkBuffers.allocate(spec(condition), 3)
    np.testing.assert_array_equal(buffers.conditions["c"], [want] * 3)
    assert buffers.conditions["c"].dtype == condition.interface
    assert buffers.conditions["c"].flags.c_contiguous  # backends are given its address


def test_without_a_null_value_unused_rows_take_the_callers():
    """A network that divides by a length must not be fed 0."""
    request = Request(n=2, conditions={"length": [4.0, 5.0]})
    batch = batch_of(spec(Condition(name="length")), request)
    np.testing.assert_array_equal(batch.null_conditions["length"], [4.0, 5.0])


def test_a_trailing_axis_of_one_takes_plain_numbers():
    """For a module that takes its label as (B, 1)."""
    label = Condition(name="label", dtype="int64", shape=(1,), classes=4)
    for value in ([1, 3], [[1], [3]]):
        np.testing.assert_array_equal(given(label, value), [[1], [3]])
    np.testing.assert_array_equal(given(label, [2], n=3), [[2]] * 3)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        given(label, [1, 3], n=3)
