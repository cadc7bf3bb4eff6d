"""The load that is shown in slices, on the terminal and in the page."""

import pytest

from revstep.bench.load.looked_into import in_slices, loads_of, looked_into


def load(rate, verdict, stopped="ended"):
    return {"bench": "serve", "part": "load", "load": {"rate": rate}, "verdict": verdict,
            "stopped": stopped, "slices": [{"from_s": 0.0}]}  # fmt: skip


SEARCH = {"bench": "serve", "part": "search", "found_per_s": 10.0}


@pytest.mark.parametrize(
    ("rows", "rate"),
    [
        ([load(10.0, "holds"), load(20.0, "missed", "missed"), SEARCH], 10.0),
        ([load(5.0, "holds"), load(10.0, "holds"), load(20.0, "missed", "missed")], 10.0),
        ([load(20.0, "holds"), load(10.0, "holds"), load(30.0, "undecided")], 20.0),
        ([load(20.0, None), load(10.0, None)], 10.0),
        ([load(20.0, "missed"), load(10.0, "undecided")], 10.0),
    ],
    ids=["a search", "an interrupted search", "rates with a limit", "no limit", "none holds"],
)
def test_the_highest_that_holds_is_shown_else_the_last(rows, rate):
    others_rows = [{"bench": "latency"}]
    assert looked_into([*others_rows, *rows])["load"]["rate"] == rate
    assert len(loads_of([*others_rows, *rows])) == sum(row["part"] == "load" for row in rows)


def test_without_a_load_none_is_shown():
    assert looked_into([{"bench": "latency"}]) is None


def test_a_load_that_ended_early_has_no_slices():
    assert in_slices(load(1.0, "missed", "missed")) == []
    assert len(in_slices(load(1.0, "missed"))) == 1
