"""``sampler=None`` is the spec's own sampler, with its compat; and ddim where it has none."""

import dataclasses

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon

from revstep import DenoiserSpec, Engine, Request, SamplerChoice
from revstep.samplers import DDIM, UniPC
from revstep.schedules import VPSchedule

SPEC = DenoiserSpec(
    shape=(3,), schedule=VPSchedule(), prediction="epsilon", grid="leading", grid_offset=1
)
CHOICE = SamplerChoice("unipc", {"order": 3}, "diffusers")


def engine(choice=None):
    spec = dataclasses.replace(SPEC, sampler=choice)
    return Engine(NumpyDenoiser(spec, gaussian_epsilon(spec)))


def drawn(one, **arguments):
    return one.sample(2, seed=3, steps=6, **arguments)


def test_without_a_choice_it_is_ddim():
    plain = drawn(engine())
    assert plain.sampler == "ddim"
    assert np.array_equal(plain.x, drawn(engine(), sampler="ddim").x)


@pytest.mark.parametrize("choice", [CHOICE, SamplerChoice("euler", compat="diffusers")])
def test_the_specs_choice_runs_where_nobody_names_a_sampler(choice):
    named = choice.name if not choice.options else UniPC(order=3)
    want = drawn(engine(), sampler=named, compat="diffusers")
    got = drawn(engine(choice))
    assert np.array_equal(got.x, want.x)
    assert got.sampler == want.sampler
    assert not np.array_equal(got.x, drawn(engine(), sampler=named).x)


def test_prepared_requested_and_repeated_runs_take_it_too():
    one = engine(CHOICE)
    want = drawn(one).x
    assert np.array_equal(drawn(one).x, want)  # of the kept run
    assert np.array_equal(one.sample(Request(n=2, seed=3, steps=6)).x, want)
    assert np.array_equal(one.prepare(2, steps=6)(seed=3).x, want)


def test_a_named_sampler_and_a_given_compat_win():
    one = engine(CHOICE)
    assert np.array_equal(drawn(one, sampler="ddim").x, drawn(engine(), sampler="ddim").x)
    want = drawn(engine(), sampler=DDIM(), compat="diffusers").x
    assert np.array_equal(drawn(one, sampler="ddim", compat="diffusers").x, want)


def test_a_choice_may_be_given_as_the_sampler():
    assert np.array_equal(drawn(engine(), sampler=CHOICE).x, drawn(engine(CHOICE)).x)


def test_inversion_stays_that_of_ddim():
    x0 = np.full((2, 3), 0.4, np.float32)
    assert np.array_equal(engine(CHOICE).invert(x0, steps=5), engine().invert(x0, steps=5))


def test_a_choice_that_this_revstep_has_not_is_refused_when_it_is_to_run():
    one = engine(SamplerChoice("of_later"))
    assert drawn(one, sampler="ddim").x.shape == (2, 3)
    with pytest.raises(ValueError, match="of_later"):
        drawn(one)


def test_a_service_runs_it():
    from revstep import Service

    with Service(engine(CHOICE)) as service:
        got = service.submit(2, seed=3, steps=6).result(timeout=60)
    np.testing.assert_allclose(got.x, drawn(engine(CHOICE)).x, atol=1e-6)
