"""How well a median is known."""

import math

import numpy as np
import pytest

from revstep.bench.stats.convergence import relative_noise


def test_too_few_runs_know_nothing():
    assert math.isinf(relative_noise([1.0] * 7))
    assert relative_noise([1.0] * 8) == 0.0


def test_more_runs_of_the_same_noise_know_more():
    draw = np.random.default_rng(0).normal(1.0, 0.05, 4096)
    few, many = relative_noise(draw[:64].tolist()), relative_noise(draw.tolist())
    assert many < few / 4
    # the standard error of a normal median, at 99 %
    assert many == pytest.approx(2.576 * 1.2533 * 0.05 / 64, rel=0.25)


def test_a_few_slow_runs_do_not_widen_it():
    calm = [1.0, 1.001] * 200
    assert relative_noise([*calm, *[100.0] * 5]) <= 0.001
