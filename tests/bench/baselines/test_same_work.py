"""What doesn't do the same work is not timed."""

import dataclasses

import numpy as np
import pytest

from revstep.bench.baselines.registry import make_baseline
from revstep.bench.baselines.same_work import Differences, OurRun
from revstep.errors import ParityError

pytest.importorskip("onnxruntime")


class Planted:
    """A right baseline, with what is done to its network's output in one call."""

    title = "planted"

    def __init__(self, given, at, change):
        self._right = make_baseline("onnxruntime", given, None)
        call, count = self._right._call, iter(range(1000))
        self._right._call = lambda inputs: (
            change(call(inputs)) if next(count) == at else call(inputs)
        )

    def sample(self, seed, feed=None):
        return self._right.sample(seed, feed)


@pytest.mark.parametrize("at", [0, 2, 3])
def test_a_wrong_step_is_named(given_of, tabular_bundle, at):
    given = given_of(tabular_bundle, sampler="ddim")
    planted = Planted(given, at, lambda out: 1.02 * out)
    with pytest.raises(ParityError, match=rf"'mine' \(planted\) .* RMS at step {at + 1} of 4, and"):
        OurRun(given).check("mine", planted)


def test_wrong_samples_are_named(given_of, tabular_bundle):
    given = given_of(tabular_bundle, sampler="ddim")
    right = make_baseline("onnxruntime", given, None)

    class Off:
        title = "off"

        def sample(self, seed, feed=None):
            return right.sample(seed, feed) + 0.01

    with pytest.raises(ParityError, match=r"at the samples, and may by 0\.001; it is not timed"):
        OurRun(given).check("off", Off())


def test_nan_and_too_few_calls_are_other_work(given_of, tabular_bundle):
    given = given_of(tabular_bundle, sampler="ddim")
    with pytest.raises(ParityError, match="differs by inf of the RMS at step 2"):
        OurRun(given).check("nan", Planted(given, 1, lambda out: out * float("nan")))
    fewer = make_baseline("onnxruntime", given, None)
    fewer._steps = fewer._steps[:-1]
    with pytest.raises(ParityError, match="made 3 network calls, and the engine 4"):
        OurRun(given).check("fewer", fewer)


def test_a_stochastic_sampler_is_fed_the_engines_noise(given_of, policy_bundle):
    given = given_of(policy_bundle, sampler="ddpm")
    right = make_baseline("onnxruntime", given, None)
    assert OurRun(given).check("right", right).largest < 1e-4

    class OwnNoise:
        title = "own noise"

        def sample(self, seed, feed=None):
            draw = np.random.default_rng(5).standard_normal
            own = dataclasses.replace(feed, step=lambda number: draw(feed.noise.shape, np.float32))
            return right.sample(seed, own)

    with pytest.raises(ParityError, match="does not do the same work"):
        OurRun(given).check("own", OwnNoise())


def test_the_largest_of_several_runs_is_that_of_each_step():
    runs = [Differences((1.0, 5.0), 2.0), Differences((3.0, 4.0), 1.0)]
    assert Differences.largest_of(runs) == Differences((3.0, 5.0), 2.0)
