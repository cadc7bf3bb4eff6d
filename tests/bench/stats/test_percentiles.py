"""Percentiles that a number of samples supports."""

import math

import pytest

from revstep.bench.stats.percentiles import (
    LADDER,
    all_supported,
    highest,
    interval_ranks,
    samples_needed,
    supported,
    unsupported,
)


@pytest.mark.parametrize("percent", LADDER)
def test_the_samples_a_percentile_needs_are_the_fewest_that_bracket_it(percent):
    needed = samples_needed(percent)
    assert interval_ranks(needed, percent) is not None
    assert interval_ranks(needed - 1, percent) is None


def test_the_99_9th_percentile_takes_thousands():
    assert samples_needed(99.9) == math.ceil(math.log(0.005) / math.log(0.999)) == 5296


def test_the_highest_percentile_grows_with_the_samples():
    assert [highest(n) for n in (7, 8, 51, 527, 528, 5296)] == [None, 50, 90, 98, 99, 99.9]


def test_what_is_missing_says_how_many_more_runs_it_takes():
    assert unsupported(60, (50, 90, 99)) == {"p99": 468}
    assert set(all_supported(range(60), (50, 90, 99, 99.9))) == {"p50", "p90"}


def test_a_value_is_one_that_was_measured_and_lies_in_its_interval():
    values = [float(n) for n in range(1, 5297)]
    for percent in (50, 99.9):
        found = supported(values, percent)
        assert found["low"] <= found["value"] <= found["high"]
        assert found["value"] == math.ceil(percent * 5296 / 100)
