"""What an interval of ratios says."""

import numpy as np
import pytest

from revstep.bench.compare import ratio_interval
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
