import numpy as np
import pytest
from specs import spec_of

import revstep
from revstep.commands.conditions import condition_values
from revstep.commands.input_files import load_array
from revstep.commands.parse import numbers, options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", [3]),
        ("0,3,5", [0, 3, 5]),
        ("0-3", [0, 1, 2, 3]),
        ("7,0-2,1", [7, 0, 1, 2, 1]),
        ("-1,0.5,1e-3", [-1, 0.5, 1e-3]),
        (" 1 , 2-3 ", [1, 2, 3]),
    ],
)
def test_numbers_lists_and_ranges(text, expected):
    assert numbers(text, "--class") == expected


@pytest.mark.parametrize("text", ["", "a", "1,,2", "5-3", "0-99999999", "nan", "inf", "1;2"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="--class"):
        numbers(text, "--class")


def test_options_are_typed():
    texts = ["eta=0.5", "order=2", "variance=large", "lower_order_final=false"]
    expected = {"eta": 0.5, "order": 2, "variance": "large", "lower_order_final": False}
    assert options(texts) == expected


def test_options_are_given_once():
    with pytest.raises(ValueError, match="eta is given twice"):
        options(["eta=0", "eta=1"])


def spec(**fields):
    condition = revstep.Condition(name="keep", **fields)
    return spec_of(shape=(2,), conditions=(condition,))


def test_bools_are_written_as_words_or_digits():
    mask = condition_values(spec(dtype="bool", shape=(4,)), "keep", "true,False,1, 0")
    assert mask.dtype == bool
    assert mask.tolist() == [[True, False, True, False]]
    with pytest.raises(ValueError, match="must be true, false, 1 or 0"):
        condition_values(spec(dtype="bool"), "keep", "yes")
    with pytest.raises(ValueError, match="must be numbers"):
        condition_values(spec(), "keep", "true")


def test_a_file_that_is_no_array_is_refused_without_advice_to_unpickle(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("x")
    for file in tmp_path.iterdir():
        with pytest.raises(ValueError, match=r"no readable .npy file.*numpy.save") as caught:
            load_array(file, "--start")
        assert "allow_pickle" not in str(caught.value)
