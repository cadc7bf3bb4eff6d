"""Samplers that users write run as the built-in ones."""

import functools
import math

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon
from specs import spec_of

import revstep
from revstep import Engine, build_program
from revstep.samplers import DDIM

SPEC = spec_of(shape=(1, 4, 5), conditions=(revstep.Condition(name="shift", null=0.0),))


def engine(spec=SPEC):
    return Engine(NumpyDenoiser(spec, gaussian_epsilon(spec)))


def ddim(run):
    x = run.x
    for now, then in run.steps:
        d = run.denoise(x, now)
        x = then.alpha * d.x0 + then.sigma * d.eps
    return x


def ancestral(run):
    x = run.x
    for now, then in run.steps:
        d = run.denoise(x, now)
        r = now.alpha / then.alpha
        std = then.sigma / now.sigma * math.sqrt(now.sigma**2 - r**2 * then.sigma**2)
        x = then.alpha * d.x0 + math.sqrt(then.sigma**2 - std**2) * d.eps
        if std > 0:
            x = x + std * run.noise()
    return x


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"guidance": [0.0, 1.0, 2.5], "conditions": {"shift": [1.0, 2.0, 3.0]}},
        {"start": np.full(SPEC.shape, 0.5), "strength": 0.5},
        {"known": np.ones(SPEC.shape), "mask": np.eye(4, 5)},
        {"grid": "leading", "trace_x0": True},
    ],
    ids=["noise", "guidance", "image-to-image", "inpainting", "trace"],
)
@pytest.mark.parametrize(("own", "named"), [(ddim, DDIM()), (ancestral, DDIM(eta=1.0))])
def test_own_samplers_run_as_the_built_in_ones(own, named, options):
    lent = engine()
    got = lent.sample(3, sampler=revstep.sampler(own), steps=9, seed=4, **options)
    want = lent.sample(3, sampler=named, steps=9, seed=4, **options)
    np.testing.assert_allclose(got.x, want.x, rtol=1e-5, atol=1e-5)
    assert (got.steps, got.calls) == (want.steps, want.calls)
    if got.x0_trace is not None:
        np.testing.assert_allclose(got.x0_trace, want.x0_trace, rtol=1e-5, atol=1e-5)


def test_a_sampler_may_call_another():
    assert build_program(SPEC, lambda run: DDIM()(run), 8).key == build_program(SPEC, "ddim", 8).key


@revstep.sampler
def decorated(run):
    return ddim(run)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (ddim, "ddim"),
        (decorated, "decorated"),
        (lambda run: ddim(run), "<lambda>"),
        (DDIM(eta=0.5), "DDIM(eta=0.5, epsilon=None)"),
    ],
)
def test_the_result_names_the_sampler(given, name):
    samples = engine().sample(1, sampler=given, steps=2, seed=0)
    assert samples.sampler == name
    assert name in repr(samples)


def test_a_decorated_function_is_traced_once_a_grid():
    traced = []

    @revstep.sampler
    def counted(run):
        traced.append(len(run.steps))
        return ddim(run)

    lent = engine()
    for steps in (4, 4, 6, 4):
        lent.sample(2, sampler=counted, steps=steps, seed=0)
    assert traced == [4, 6]
    lent.sample(1, sampler=counted, steps=4, seed=0, grid="leading")
    assert traced == [4, 6, 4]


def test_a_plain_function_follows_what_it_reads():
    shift = {"eta": 0.0}

    def reads(run):
        return DDIM(eta=shift["eta"])(run)

    lent = engine()
    draw = functools.partial(lent.sample, 1, steps=5, seed=0)
    before = draw(sampler=reads).x
    shift["eta"] = 1.0
    np.testing.assert_array_equal(draw(sampler=reads).x, draw(sampler=DDIM(eta=1.0)).x)
    assert not np.array_equal(before, draw(sampler=reads).x)


def test_the_same_function_gives_the_same_program():
    made = [build_program(SPEC, given, 7) for given in (ddim, ddim, revstep.sampler(ddim))]
    assert len({program.key for program in made}) == 1
    assert revstep.sampler(ddim) == revstep.sampler(ddim)


class Unhashable:
    __hash__ = None

    def __call__(self, run):
        return ddim(run)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "goes on a function of a Run; got 3"),
        (DDIM, "goes on a function"),
        (DDIM(), "is a sampler already"),
        (Unhashable(), "needs a hashable function"),
    ],
)
def test_the_decorator_refuses_what_is_no_function(given, message):
    with pytest.raises(TypeError, match=message):
        revstep.sampler(given)


def test_an_object_that_can_be_called_is_a_sampler():
    rows = build_program(SPEC, Unhashable(), 5).rows
    np.testing.assert_array_equal(rows, build_program(SPEC, ddim, 5).rows)
    assert engine().sample(1, sampler=functools.partial(ddim), steps=2).calls == 2


def test_single_numbers_of_numpy_scale_vectors():
    def from_arrays(run):
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            alpha, sigma = np.array(then.alpha), np.array(then.sigma)  # of shape ()
            x = alpha * d.x0 + d.eps * sigma
        return x

    rows = build_program(SPEC, from_arrays, 6).rows
    np.testing.assert_array_equal(rows, build_program(SPEC, ddim, 6).rows)
