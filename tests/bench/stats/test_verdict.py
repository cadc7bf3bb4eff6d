"""What an interval of ratios says."""

import numpy as np
import pytest

from revstep.bench.compare import ENOUGH, apart_interval, openings_interval, ratio_interval
from revstep.bench.stats.verdict import VERDICTS, verdict


@pytest.mark.parametrize(
    ("low", "ratio", "high", "said"),
    [
        (0.99, 1.00, 1.01, "same"),
        (1.03, 1.05, 1.07, "faster"),
        (0.93, 0.95, 0.97, "slower"),
        (0.95, 1.00, 1.05, "ambiguous"),
        (1.001, 1.01, 1.015, "same"),  # apart, but not by what matters
        (1.005, 1.015, 1.03, "ambiguous"),
        (0.99, 1.05, 1.09, "ambiguous"),
    ],
)
def test_a_difference_must_be_sure_and_matter(low, ratio, high, said):
    assert verdict({"low": low, "ratio": ratio, "high": high}) == said
    assert said in VERDICTS


def test_the_two_sides_see_it_the_other_way_round():
    turned = {"faster": "slower", "slower": "faster", "same": "same", "ambiguous": "ambiguous"}
    draw = np.random.default_rng(3)
    for shift in (0.9, 0.97, 1.0, 1.004, 1.1):
        ours = draw.lognormal(0.0, 0.02, 60)
        theirs = shift * draw.lognormal(0.0, 0.02, 60)
        said = verdict(ratio_interval([ours], [theirs]))
        assert verdict(ratio_interval([theirs], [ours])) == turned[said]


def test_twins_are_hardly_ever_told_apart_and_five_percent_is_found():
    draw = np.random.default_rng(4)
    wrong = missed = 0
    for _ in range(100):
        drift = draw.normal(0.0, 0.05, 200).cumsum() / 14  # both sides have it: they take turns
        ours, theirs = (np.exp(drift + draw.normal(0.0, 0.03, 200)) for _ in range(2))
        wrong += verdict(ratio_interval([ours], [theirs])) in ("faster", "slower")
        missed += verdict(ratio_interval([ours * 1.05], [theirs])) != "slower"
    assert wrong <= 5
    assert missed <= 10


def test_places_that_move_all_times_of_an_opening_are_in_the_interval_from_five_openings_on():
    draw = np.random.default_rng(5)

    def wrong(pairs, openings):
        """Of so many pairs of twins, how many intervals leave 1 out."""
        count = 0
        for _ in range(pairs):
            ours, theirs = (
                [np.exp(draw.normal(place, 0.01, 60)) for place in draw.normal(0.0, 0.02, openings)]
                for _ in range(2)
            )
            found = openings_interval(ours, theirs)
            count += not found["low"] <= 1.0 <= found["high"]
        return count

    assert wrong(20, 1) > 12  # no number of runs shows it
    assert wrong(80, ENOUGH) <= 10


def test_of_five_openings_an_interval_is_from_the_least_to_the_largest():
    each = [1.01, 1.05, 1.03, 0.98, 1.02]
    found = openings_interval([[1.0, 1.0, 1.0]] * 5, [[0.9 * r, r, 1.1 * r] for r in each])
    assert found == {"ratio": 1.02, "low": 0.98, "high": 1.05}


def test_of_few_openings_the_runs_are_those_of_one():
    ours, theirs = [[1.0] * 20, [1.0]], [[1.0 + n / 100 for n in range(20)], [9.0]]
    pooled = ratio_interval([[*ours[0], *ours[1]]], [[*theirs[0], *theirs[1]]])
    assert openings_interval(ours, theirs) == pooled


def test_a_few_starts_whose_medians_are_near_have_the_scatter_of_their_runs():
    start = [0.9 + 0.01 * number for number in range(21)]
    few = apart_interval([start, start], [start, start])
    one = apart_interval([start * 2], [start * 2])
    assert few["low"] == pytest.approx(one["low"], abs=0.01)
    assert few["high"] == pytest.approx(one["high"], abs=0.01)
    assert few["high"] - few["low"] > 0.05
    apart = apart_interval([start, [2 * value for value in start]], [start, start])
    assert (apart["low"], apart["high"]) == pytest.approx((0.5, 1.0), abs=0.1)
