import copy
import json
import pickle

import numpy as np
import pytest

from revstep.engine.spec.frozen_array import FrozenArray

ARRAYS = [
    np.array([0.1, -2.5e-38, 3.4e38], np.float32),
    np.arange(6, dtype=np.int32).reshape(2, 3),
    np.array([[True, False]]),
    np.array([-(2**63), 2**63 - 1]),
    np.random.default_rng(0).standard_normal((77, 3)).astype(np.float32),
    np.random.default_rng(0).random((9, 9)) < 0.5,
    np.random.default_rng(0).integers(-(2**63), 2**63 - 1, (10, 10)),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}-{a.size}")
def test_json_keeps_every_value(array):
    text = json.dumps(FrozenArray(array).to_json())
    read = json.loads(text)
    again = (
        np.array(read, array.dtype) if isinstance(read, list) else FrozenArray.from_json(read, "x")
    )
    assert np.asarray(again).dtype == array.dtype
    np.testing.assert_array_equal(np.asarray(again), array)


def test_large_arrays_take_four_thirds_of_their_bytes_in_json():
    array = np.random.default_rng(0).standard_normal((77, 768)).astype(np.float32)
    assert len(json.dumps(FrozenArray(array).to_json())) < array.nbytes * 4 / 3 + 100


def test_equal_arrays_are_equal_and_of_one_hash():
    one, other = FrozenArray(np.float32([0.0, 1.0])), FrozenArray(np.float32([-0.0, 1.0]))
    assert one == other
    assert hash(one) == hash(other)
    for different in ([0.0, 2.0], [[0.0, 1.0]], [0.0]):
        assert one != FrozenArray(np.float32(different))
    assert one != FrozenArray(np.array([0, 1]))
    assert one != 0.0
    assert FrozenArray(np.array([True])) == FrozenArray(np.array([True]))
    assert FrozenArray(np.array([True])) != FrozenArray(np.array([False]))


def test_it_can_not_change():
    given = np.zeros(3, np.float32)
    frozen = FrozenArray(given)
    given[0] = 1.0
    assert not np.asarray(frozen).any()
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(frozen)[0] = 1.0
    for twin in (copy.copy(frozen), copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert twin == frozen
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(twin)[0] = 1.0
    mine = np.array(frozen)
    mine[0] = 1.0
    assert not np.asarray(frozen).any()
    assert np.asarray(frozen, np.float64).dtype == np.float64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "object"}, "dtype 'object'"),
        ({"dtype": "float64"}, "dtype 'float64'"),
        ({"shape": [100, 4]}, "bytes, not float32"),
        ({"shape": [-1]}, "no readable shape"),
        ({"shape": [True]}, "no readable shape"),
        ({"shape": 300}, "no readable shape"),
        ({"base64": "*"}, "no base64"),
        ({"base64": "a"}, "no base64"),
        ({"base64": 3}, "no readable shape"),
        ({"more": 1}, "must have base64, dtype, shape"),
    ],
)
def test_what_is_no_array_is_refused(change, message):
    good = FrozenArray(np.zeros((100, 3), np.float32)).to_json()
    with pytest.raises(ValueError, match=message):
        FrozenArray.from_json({**good, **change}, "a null value")
