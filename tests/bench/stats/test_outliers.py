"""Outliers by Tukey's fences."""

from revstep.bench.stats.outliers import count_outliers


def test_values_beyond_the_fences_are_counted_by_side_and_distance():
    inner = [float(n) for n in range(1, 101)]  # quartiles 25.75 and 75.25, range 49.5
    found = count_outliers([*inner, 160.0, 500.0, 600.0, -60.0])
    assert found == {"low_severe": 0, "low_mild": 1, "high_mild": 1, "high_severe": 2}


def test_equal_values_have_none():
    assert not any(count_outliers([2.0] * 9).values())
