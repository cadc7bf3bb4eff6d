"""The pool of lanes: bounded, and never waiting for itself."""

import dataclasses
import threading
import time

import numpy as np
import pytest
from networks import NumpyDenoiser, gaussian_epsilon

from revstep import Condition, DenoiserSpec, Engine
from revstep.engine.runtime.pool import LanePool
from revstep.engine.runtime.runtime import RUNS_AT_ONCE, host_lane, host_runtime
from revstep.errors import NonFiniteError
from revstep.schedules import VPSchedule

SPEC = DenoiserSpec(shape=(3,), schedule=VPSchedule(), prediction="epsilon", batch=(1, 4))


def test_runs_inside_callbacks_of_as_many_threads_as_there_are_places_end():
    engine = Engine(NumpyDenoiser(SPEC, gaussian_epsilon(SPEC)))
    together, found = threading.Barrier(RUNS_AT_ONCE), {}

    def inner(seed):
        together.wait(timeout=10)  # all places are taken now
        found[seed] = engine.sample(1, steps=3, seed=seed).x

    def outer(seed):
        engine.sample(2, steps=2, seed=0, progress=lambda k, n: inner(seed) if k == 1 else None)

    threads = [threading.Thread(target=outer, args=(k,), daemon=True) for k in range(RUNS_AT_ONCE)]
    for t in threads:
        t.start()
    end = time.monotonic() + 20
    for t in threads:
        t.join(timeout=max(0.0, end - time.monotonic()))
    assert not any(t.is_alive() for t in threads)
    for seed, x in found.items():
        np.testing.assert_array_equal(x, engine.sample(1, steps=3, seed=seed).x)
    assert len(found) == RUNS_AT_ONCE


def test_nested_loans_keep_the_pool_bounded():
    denoiser = NumpyDenoiser(SPEC, gaussian_epsilon(SPEC))
    pool = LanePool(lambda buckets: host_lane(denoiser, buckets), 1, "native")
    lent = []

    def nested():
        with pool.lend(2) as first:
            with pool.lend(2) as second:
                lent.extend([first, second])
            with pool.lend(2) as third:
                lent.append(third)

    worker = threading.Thread(target=nested, daemon=True)
    worker.start()
    worker.join(timeout=10)
    first, second, third = lent
    assert first is not second
    assert third is second
    with pool.lend(2) as again:
        assert again in (first, second)
        waiting = threading.Thread(target=lambda: pool.lend(2).__enter__(), daemon=True)
        waiting.start()
        waiting.join(timeout=0.2)
        assert waiting.is_alive()  # another thread still waits for its turn
    waiting.join(timeout=10)
    assert not waiting.is_alive()


def test_what_a_lane_keeps_for_the_next_run_changes_no_bit():
    shift = Condition(name="shift", null=0.0)
    spec = dataclasses.replace(SPEC, conditions=(shift,), batch=(4, 4))  # one lane for all
    engine = Engine(NumpyDenoiser(spec, gaussian_epsilon(spec)))
    rng, known = np.random.default_rng(0), np.linspace(-1, 1, 3, dtype=np.float32)
    forms = [
        {"sampler": "dpmpp_2m"},
        {"sampler": "dpmpp_2m", "guidance": [2.0, 1.0], "conditions": {"shift": [0.3, 0.1]}},
        {"sampler": "ddpm", "mask": [1, 0, 1], "known": known},
        {"sampler": "ddpm", "mask": [0, 1, 0.5], "known": -known},
        {"sampler": "ddpm", "trace_x0": (2,)},
        {"start": known, "strength": 0.5},
        {"sampler": "dpmpp_2m", "guidance": [1.0, 2.0], "conditions": {"shift": [0.3, 0.1]}},
    ]
    first = {}
    for k in [*rng.permutation(7), *rng.permutation(7), 0, 0, 1, 1, 6, 1, 2, 3, 2]:
        options = {"n": 2, "steps": 4, "seed": 3, **forms[k]}
        got = engine.sample(**options).x
        fresh = Engine(NumpyDenoiser(spec, gaussian_epsilon(spec))).sample(**options).x
        np.testing.assert_array_equal(got, fresh)
        np.testing.assert_array_equal(first.setdefault(k, got), got)  # nor overwrites an old result


def test_a_run_that_failed_leaves_nothing_to_the_next():
    fails = []
    exact = gaussian_epsilon(SPEC)

    def network(x, t, conditions):
        return np.full_like(x, np.nan) if fails else exact(x, t, conditions)

    engine = Engine(NumpyDenoiser(SPEC, network))
    options = {"steps": 5, "seed": 1, "sampler": "dpmpp_2m"}
    want = engine.sample(2, **options).x
    fails.append(True)
    with pytest.raises(NonFiniteError):
        engine.sample(2, **options)
    fails.clear()
    np.testing.assert_array_equal(engine.sample(2, **options).x, want)


def test_calls_are_padded_to_buckets_where_they_are_given():
    spec = dataclasses.replace(SPEC, batch=(1, 8))
    denoiser = NumpyDenoiser(spec, gaussian_epsilon(spec))
    padded = Engine(host_runtime(denoiser, buckets=(2, 5)))
    assert padded.describe()["buckets"] == [2, 5]
    assert padded.describe()["batch"] == [1, 5]
    options = {"steps": 3, "seed": 1, "sampler": "dpmpp_2m"}
    got = [padded.sample(n, **options).x for n in (1, 2, 3, 7)]
    assert denoiser.rows == [rows for rows in (2, 2, 5, 5, 2) for _ in range(3)]
    plain = Engine(NumpyDenoiser(spec, gaussian_epsilon(spec)))
    for n, x in zip((1, 2, 3, 7), got, strict=True):
        np.testing.assert_array_equal(x, plain.sample(n, **options).x)
    with pytest.raises(ValueError, match="batch range, 1 to 8"):
        host_runtime(denoiser, buckets=(16,))
