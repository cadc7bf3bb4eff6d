import pytest

from revstep.commands.values import numbers, options


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
    given = ["eta=0.5", "order=2", "variance=large", "lower_order_final=false"]
    expected = {"eta": 0.5, "order": 2, "variance": "large", "lower_order_final": False}
    assert options(given) == expected


def test_options_are_given_once():
    with pytest.raises(ValueError, match="eta is given twice"):
        options(["eta=0", "eta=1"])
