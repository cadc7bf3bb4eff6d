"""Poisson arrivals."""

import numpy as np
import pytest

from revstep.bench.load.arrivals import poisson_arrivals


def test_arrivals_are_the_same_for_a_seed_and_stretched_at_another_rate():
    slow, fast = poisson_arrivals(10.0, 4000, 3), poisson_arrivals(20.0, 4000, 3)
    assert slow == pytest.approx(2 * fast)
    assert slow.tolist() == poisson_arrivals(10.0, 4000, 3).tolist()
    assert slow.tolist() != poisson_arrivals(10.0, 4000, 4).tolist()


def test_their_gaps_are_exponential():
    gaps = np.diff(poisson_arrivals(10.0, 4000, 3))
    assert gaps.mean() == pytest.approx(0.1, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
