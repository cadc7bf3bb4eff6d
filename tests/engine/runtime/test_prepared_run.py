"""Runs prepared for control loops, and the short way that ``sample`` takes for a form it knows."""

import copy
import gc
import os
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon
from specs import spec_of

from revstep import Condition, Engine, GuidanceInterval, PreparedRun, Request, Timing
from revstep.errors import ArgumentError, ArgumentTypeError, NonFiniteError
from revstep.samplers import DDIM

SHAPE = (1, 4, 5)
SHIFT = Condition(name="shift", null=0.0)
TURN = Condition(name="turn", null=0.0)


def engine(network=None, conditions=(SHIFT,), **options):
    spec = spec_of(shape=SHAPE, conditions=conditions, batch=(1, 8))
    return Engine(NumpyDenoiser(spec, network or gaussian_epsilon(spec)), **options)


def picture(seed):
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


FORMS = {
    "ddim": {},
    "noise every step": {"sampler": "ddpm", "steps": 7},
    "options": {"sampler": DDIM(eta=0.4), "grid": "karras", "clip": False, "final": "first"},
    "history": {"sampler": "dpmpp_3m", "steps": 9},
    "guided": {"guidance": 3.0, "conditions": {"shift": 0.5}},
    "guided in part": {"guidance": [1.0, 2.0, 1.0], "conditions": {"shift": [0.1, 0.2, 0.3]}},
    "weighted": {"guidance": 2.0, "guidance_weight": GuidanceInterval(0.1, 9.0),
                 "conditions": {"shift": 1.0}},
    "image to image": {"start": picture(1), "strength": 0.6},
    "inpainting": {"mask": np.eye(4, 5), "known": picture(2)},
    "noise given": {"noise": picture(3)},
    "small batches": {"batch_size": 2},
    "diffusers": {"compat": "diffusers", "sampler": "euler"},
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reproducible", [False, True])
def test_a_prepared_run_gives_the_bits_of_sample(form, reproducible):
    options = {"steps": 5, **FORMS[form]}
    e = engine(reproducible=reproducible)
    run = e.prepare(3, **options)
    for seed in (4, 9, [1, 2, 3]):
        want = engine(reproducible=reproducible).sample(3, seed=seed, **options)
        got = run(seed=seed)
        np.testing.assert_array_equal(got.x, want.x)
        np.testing.assert_array_equal(got.seeds, want.seeds)
        named = ("sampler", "steps", "calls", "value_range")
        assert [getattr(got, n) for n in named] == [getattr(want, n) for n in named]


@pytest.mark.parametrize(
    "values",
    [
        {"conditions": {"shift": [0.3, -0.2]}},
        {"null_conditions": {"shift": 0.7}},
        {"guidance": 4.0},
        {"guidance": [1.0, 2.5]},
        {"guidance": 1.0},
        {"start": picture(5)},
        {"noise": picture(6)},
        {"mask": np.ones((4, 5)), "known": picture(7)},
        {"known": picture(8), "conditions": {"turn": 1.0}},
    ],
    ids=repr,
)
def test_a_call_changes_what_it_gives_and_leaves_the_rest(values):
    prepared = {
        "steps": 6, "guidance": 2.0, "conditions": {"shift": 0.5, "turn": 0.2},
        "null_conditions": {"shift": 0.1}, "start": picture(1), "mask": np.eye(4, 5),
    }  # fmt: skip
    e = engine(conditions=(SHIFT, TURN))
    run = e.prepare(2, seed=3, **prepared)
    merged = {**prepared, **values}
    for name in ("conditions", "null_conditions"):
        merged[name] = {**prepared[name], **values.get(name, {})}
    want = engine(conditions=(SHIFT, TURN)).sample(2, seed=3, **merged).x
    np.testing.assert_array_equal(run(**values).x, want)
    np.testing.assert_array_equal(run().x, e.sample(2, seed=3, **prepared).x)  # as prepared


def test_a_seed_is_drawn_where_none_was_prepared_or_given():
    run = engine().prepare(1, steps=2)
    assert run().seeds != run().seeds
    assert engine().prepare(1, steps=2, seed=7)().seeds.tolist() == [7]
    assert run(seed=2**64 - 1).seeds.tolist() == [2**64 - 1]


def test_a_request_is_prepared_too():
    request = Request(n=2, sampler="unipc", steps=6, seed=1)
    run = engine().prepare(request)
    assert isinstance(run, PreparedRun)
    np.testing.assert_array_equal(run().x, engine().sample(request).x)


def test_a_bundles_decoder_runs_where_it_is_asked_for():
    e = engine(decoder=lambda x: 2.0 * x)
    np.testing.assert_array_equal(
        e.prepare(1, steps=3, seed=1)().decoded, e.sample(1, steps=3, seed=1).decoded
    )
    assert e.prepare(1, steps=3, seed=1, decode=False)().decoded is None


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"start": picture(1)}, ArgumentError, "start was not among what was prepared"),
        ({"mask": np.eye(4, 5), "known": picture(1)}, ArgumentError, "mask was not among"),
        ({"conditions": {"shft": 1.0}}, ArgumentError, "did you mean 'shift'"),
        ({"conditions": [1.0]}, ArgumentTypeError, "conditions"),
        ({"conditions": {"shift": [1.0, 2.0, 3.0]}}, ArgumentError, "shift"),
        ({"seed": [1, 2, 3]}, ArgumentError, "3 seeds for 2 samples"),
        ({"seed": -1}, ArgumentError, "seed"),
        ({"guidance": np.ones(3)}, ArgumentError, "guidance has shape"),
    ],
)
def test_other_forms_and_wrong_values_are_refused(given, error, text):
    run = engine().prepare(2, steps=3)
    with pytest.raises(error, match=text):
        run(**given)
    assert run(seed=1).x.shape == (2, *SHAPE)


@pytest.mark.parametrize("name", ["progress", "on_step", "trace_x0", "cancel", "timing"])
def test_what_follows_the_steps_is_refused_with_the_reason(name):
    with pytest.raises(ArgumentTypeError, match=rf"{name} follows a run's steps.*engine.sample"):
        engine().prepare(1, **{name: None})
    with pytest.raises(ArgumentTypeError, match="did you mean 'steps'"):
        engine().prepare(1, step=3)


@pytest.mark.parametrize("name", ["steps", "n", "progress", "sede"])
def test_a_call_says_what_it_may_change(name):
    run = engine().prepare(1, steps=3)
    with pytest.raises(ArgumentTypeError, match=f"^{name} is no argument of a call.*seed, guid"):
        run(**{name: 4})


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_says_that_the_engine_is_to_be_copied_instead(way):
    with pytest.raises(TypeError, match="copy or send its engine"):
        way(engine().prepare(1))


def test_it_shows_what_was_prepared():
    assert repr(engine().prepare(2, steps=3)) == "PreparedRun(2 x ddim, 3 steps)"


def test_a_network_that_gives_nan_fails_its_call_and_no_other():
    broken = []

    def network(x, t, conditions):
        return np.full_like(x, np.nan) if broken else np.zeros_like(x)

    run = engine(network).prepare(2, steps=4, seed=0)
    want = run().x
    broken.append(True)
    with pytest.raises(NonFiniteError, match="step 1 of 4, for sample 0, 1"):
        run()
    broken.clear()
    np.testing.assert_array_equal(run().x, want)


def test_threads_share_a_prepared_run():
    run = engine().prepare(2, sampler="ddpm", steps=12)
    want = {seed: run(seed=seed).x for seed in range(16)}
    got = {}

    def work(first):
        for seed in range(first, 16, 4):
            got[seed] = run(seed=seed).x

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, x in want.items():
        np.testing.assert_array_equal(got[seed], x)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_prepared_run_goes_on_in_a_forked_child():
    run = engine().prepare(1, steps=4)
    want = run(seed=5).x
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if np.array_equal(run(seed=5).x, want) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_arrays_that_were_prepared_with_are_kept_as_they_were():
    shift, turn = np.float32([0.5, 0.1]), np.float32([0.2, 0.7])
    mask, known, noise = np.eye(4, 5), picture(2), picture(3)
    guidance = np.float32([2.0, 3.0])
    prepared = {"conditions": {"shift": shift, "turn": turn}, "guidance": guidance,
                "mask": mask, "known": known, "noise": noise}  # fmt: skip
    e = engine(conditions=(SHIFT, TURN))
    run = e.prepare(2, steps=4, seed=1, **prepared)
    news = ({"conditions": {"turn": 0.9}}, {"guidance": 1.5}, {"noise": picture(4)}, {})
    want = [run(**new).x for new in news]
    for array in (shift, turn, mask, known, noise, guidance):
        array[...] = 0.25
    for new, x in zip(news, want, strict=True):
        np.testing.assert_array_equal(run(**new).x, x)


def test_a_callback_of_another_run_calls_a_prepared_one():
    e, got = engine(), []
    run = e.prepare(2, steps=3, seed=1)
    want = run().x
    plain = e.sample(2, steps=4, seed=2).x
    outer = e.sample(2, steps=4, seed=2, on_step=lambda _: got.append(run().x))
    np.testing.assert_array_equal(outer.x, plain)
    assert len(got) == 4
    assert all(np.array_equal(x, want) for x in got)


def test_a_prepared_run_of_another_form_between_two_calls_changes_neither():
    e = engine()
    one, two = e.prepare(2, steps=3, seed=1), e.prepare(2, sampler="ddpm", steps=5, seed=1)
    first, second = one().x, two().x
    np.testing.assert_array_equal(one().x, first)
    np.testing.assert_array_equal(two().x, second)


# ---- the short way of sample


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_sample_knows_gives_the_same_bits(form):
    options = {"steps": 5, **FORMS[form]}
    e = engine()
    first = e.sample(3, seed=4, **options)
    e.sample(3, seed=5, **options)
    again = e.sample(3, seed=4, **options)
    np.testing.assert_array_equal(first.x, again.x)


def test_conditions_of_an_earlier_call_are_not_taken_up():
    e = engine()
    plain = e.sample(2, steps=4, seed=1).x
    shifted = e.sample(2, steps=4, seed=1, conditions={"shift": 2.0}).x
    assert not np.array_equal(plain, shifted)
    np.testing.assert_array_equal(e.sample(2, steps=4, seed=1).x, plain)
    np.testing.assert_array_equal(e.sample(2, steps=4, seed=1, conditions={}).x, plain)


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": True}, {"n": 2.0}, {"steps": True}, {"steps": 4.0}, {"clip": 0}, {"decode": 1},
        {"batch_size": 4.0}, {"conditions": [1.0]}, {"conditions": {"x": 1}}, {"seed": 1.5},
        {"seed": -1}, {"conditions": []}, {"conditions": np.ones(2)}, {"null_conditions": 0},
        {"noise": np.ones(3)},
    ],
    ids=repr,
)  # fmt: skip
def test_equal_values_of_wrong_types_are_refused_after_right_ones(wrong):
    good = {"n": 2, "steps": 4, "batch_size": 4, "seed": 1, "conditions": {"shift": 1.0}}
    e = engine()
    for _ in range(2):
        e.sample(**{**good, "clip": False})
        e.sample(**good)
    if wrong == {"decode": 1}:
        e.sample(**{**good, **wrong})  # any truth value does, as ever
        return
    with pytest.raises((TypeError, ValueError)):
        e.sample(**{**good, **wrong})


def test_guidance_still_needs_conditions_at_the_second_call():
    e = engine()
    e.sample(2, steps=3, seed=1, guidance=2.0, conditions={"shift": 1.0})
    with pytest.raises(ArgumentError, match="guidance without conditions"):
        e.sample(2, steps=3, seed=1, guidance=2.0)


def test_noise_of_an_earlier_call_is_not_taken_up():
    e = engine()
    drawn, given = e.sample(2, steps=4, seed=1).x, e.sample(2, steps=4, seed=1, noise=picture(1)).x
    for _ in range(2):
        np.testing.assert_array_equal(e.sample(2, steps=4, seed=1).x, drawn)
        again = e.sample(2, steps=4, seed=1, noise=picture(1)).x
        np.testing.assert_array_equal(again, given)
    fresh = engine().sample(2, steps=4, seed=1, noise=picture(2)).x
    np.testing.assert_array_equal(e.sample(2, steps=4, seed=1, noise=picture(2)).x, fresh)


@pytest.mark.parametrize("error", [TypeError, ValueError, KeyError])
def test_an_error_of_the_network_ends_the_run_that_met_it(error):
    calls = []

    def network(x, t, conditions):
        calls.append(len(calls))
        if len(calls) == 4:
            raise error("once")
        return np.zeros_like(x)

    e = engine(network)
    e.sample(1, steps=2, seed=0)
    with pytest.raises(error, match="once"):
        e.sample(1, steps=2, seed=0)
    assert len(calls) == 4  # it wasn't run again


def test_no_array_of_the_callers_is_kept():
    class Kept(np.ndarray):
        pass

    e, values = engine(), np.ones(2, np.float32).view(Kept)
    noise = np.zeros((2, *SHAPE), np.float32).view(Kept)
    e.sample(2, steps=3, seed=1, conditions={"shift": values}, noise=noise)
    gone = weakref.ref(values), weakref.ref(noise)
    del values, noise
    gc.collect()
    assert [found() for found in gone] == [None, None]


def test_a_function_that_may_change_is_traced_every_time():
    traced = []

    def walk(run):
        traced.append(run)
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = then.alpha * d.x0 + then.sigma * d.eps
        return x

    e = engine()
    e.sample(1, sampler=walk, steps=3, seed=0)
    e.sample(1, sampler=walk, steps=3, seed=0)
    assert len(traced) == 2


def test_an_unwatched_step_enters_python_for_the_network_alone():
    """The same on every machine: Python functions entered by 10 more steps."""

    def entered(steps):
        e = engine(lambda x, t, conditions: x)
        run = e.prepare(1, steps=steps, seed=0)
        run()
        count = 0

        def event(_frame, kind, _argument):
            nonlocal count
            count += kind == "call"

        sys.setprofile(event)
        try:
            run()
        finally:
            sys.setprofile(None)
        return count

    network = engine()._runtime._denoiser
    assert network is not None
    assert entered(20) - entered(10) <= 10 * 3  # the double's own call, and what it calls


def test_timing_still_sees_every_step():
    timing = Timing()
    engine().sample(2, steps=6, seed=0, timing=timing)
    engine().sample(2, steps=6, seed=0, timing=timing)
    assert len(timing.network_ns) == 12
