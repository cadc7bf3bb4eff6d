"""When one candidate is slower than another: beyond noise, and not by next to nothing."""

import math

import numpy as np
import pytest

from revstep.export.targets.cpu.timing import Block, as_fast, ratio, slower


def blocks(times):
    return {n: Block(t, t, t, 10, 10 * t) for n, t in enumerate(times)}


def noisy(mean, rng, rounds=12, spread=0.2, drift=None):
    drift = np.ones(rounds) if drift is None else drift
    return blocks(mean * drift * np.exp(spread * rng.standard_normal(rounds)))


def test_the_ratio_is_of_the_rounds_in_common():
    one = {2: Block(4.0, 4, 4, 1, 4), 3: Block(2.0, 2, 2, 1, 2), 9: Block(99.0, 9, 9, 1, 9)}
    other = {2: Block(2.0, 2, 2, 1, 2), 3: Block(1.0, 1, 1, 1, 1), 8: Block(0.1, 1, 1, 1, 1)}
    middle, error, rounds = ratio(one, other)
    assert (middle, error, rounds) == (2.0, math.inf, 2)
    assert not slower(one, other)  # two rounds decide nothing
    assert math.isnan(ratio(one, {})[0])
    assert not slower(one, {})
    assert not as_fast(one, {})


def test_a_machine_that_slows_down_slows_both():
    rng = np.random.default_rng(0)
    drift = np.exp(np.linspace(0, 2, 12))  # seven times as slow at the end
    one, other = (noisy(m, rng, spread=0.01, drift=drift) for m in (1.1, 1.0))
    assert slower(one, other)
    assert not slower(other, one)


@pytest.mark.parametrize("spread", [0.001, 0.02, 0.1])
def test_equals_are_as_fast_and_twice_the_time_is_slower(spread):
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(200):
        one, same, twice = (noisy(m, rng, spread=spread) for m in (1.0, 1.0, 2.0))
        assert slower(twice, one)
        assert not as_fast(twice, one)
        wrong += slower(one, same)
    assert wrong < 20  # two standard errors, one-sided: 2.5 % of the pairs


def test_a_percent_is_nothing_to_speak_of():
    one, other = blocks([1.009] * 8), blocks([1.0] * 8)
    assert not slower(one, other)
    assert as_fast(one, other)
    assert slower(blocks([1.02] * 8), other)


def test_more_than_five_percent_is_never_as_fast():
    one, other = blocks([0.5, 1.06, 1.08, 3.0]), blocks([1.0] * 4)
    assert not slower(one, other)  # for all that is known
    assert not as_fast(one, other)
