"""Programs kept across engines."""

import os
import threading

import numpy as np
import pytest
from specs import spec_of

import revstep
from revstep.engine.engine import Engine
from revstep.engine.program.kept import KEPT, ProgramCache, programs_of
from revstep.engine.program.table import build_program
from revstep.schedules import FlowSchedule, VPSchedule


class Network:
    """Gives zeros."""

    def __init__(self, spec):
        self.spec = spec

    def bind(self, buffers):
        return lambda: buffers.out.fill(0.0)

    def describe(self):
        return {"backend": "zeros"}


@pytest.fixture(autouse=True)
def _nothing_kept():
    KEPT.clear()
    yield
    KEPT.clear()


def _engine(**fields):
    return Engine(Network(spec_of(shape=(4,), **fields)))


def _builds(monkeypatch):
    """The samplers that are traced from here on."""
    seen = []

    def build(spec, sampler, *arguments, **options):
        seen.append(sampler)
        return build_program(spec, sampler, *arguments, **options)

    monkeypatch.setattr("revstep.engine.engine.build_program", build)
    return seen


def test_engines_of_equal_specs_trace_a_built_in_sampler_once(monkeypatch):
    traced = _builds(monkeypatch)
    for engine in (_engine(), _engine()):
        engine.sample(1, sampler="dpmpp_2m", steps=5, seed=0)
        engine.sample(2, sampler="dpmpp_2m", steps=5, seed=1)
    assert len(traced) == 1


def test_engines_of_other_specs_and_other_arguments_trace_for_themselves(monkeypatch):
    traced = _builds(monkeypatch)
    _engine().sample(1, steps=5, seed=0)
    _engine(schedule=VPSchedule(steps=500)).sample(1, steps=5, seed=0)
    _engine(schedule=FlowSchedule(), prediction="flow").sample(1, steps=5, seed=0)
    _engine().sample(1, steps=6, seed=0)
    _engine().sample(1, steps=5, seed=0, grid="leading")
    assert len(traced) == 5


def test_a_function_of_the_users_own_is_kept_by_its_engine_alone():
    traced = []

    @revstep.sampler
    def walk(run):
        traced.append(run)
        x = run.x
        for now, then in run.steps:
            d = run.denoise(x, now)
            x = then.alpha * d.x0 + then.sigma * d.eps
        return x

    for engine in (_engine(), _engine()):
        engine.sample(1, sampler=walk, steps=3, seed=0)
        engine.sample(1, sampler=walk, steps=3, seed=1)
    assert len(traced) == 2


def test_inversions_are_kept_apart_from_runs():
    engine, other = _engine(), _engine()
    x0 = np.ones((1, 4), np.float32)
    noise = engine.invert(x0, steps=4)
    assert len(KEPT) == 1
    np.testing.assert_array_equal(other.invert(x0, steps=4), noise)
    assert len(KEPT) == 1
    engine.sample(noise=noise, steps=4)
    assert len(KEPT) == 2


def test_the_least_recently_used_is_given_up_beyond_the_bytes():
    spec = spec_of(shape=(4,))
    programs = {steps: build_program(spec, "ddim", steps) for steps in (10, 11, 12)}
    of_two = sum(p.rows.nbytes + p.table.nbytes + 256 * len(p.points) for p in programs.values())
    cache = ProgramCache(limit=of_two - 1)
    for steps in (10, 11, 10, 12):  # 11 goes
        assert cache.get(steps, lambda steps=steps: programs[steps]) is programs[steps]
    asked = []
    for steps in (10, 12, 11):
        cache.get(steps, lambda steps=steps: asked.append(steps) or programs[steps])
    assert asked == [11]


def test_a_program_larger_than_the_limit_is_kept_alone():
    program = build_program(spec_of(shape=(4,)), "ddim", 10)
    cache = ProgramCache(limit=1)
    assert cache.get("a", lambda: program) is program
    assert len(cache) == 1


def test_threads_that_ask_at_once_get_one_program():
    spec = programs_of(spec_of(shape=(4,)))
    together, found = threading.Barrier(4), []

    def ask():
        together.wait()
        found.append(spec.get(build_program, sampler="unipc", steps=30))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(program) for program in found}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_while_the_lock_is_held_goes_on():
    with KEPT._lock:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                programs_of(spec_of(shape=(4,))).get(build_program, sampler="ddim", steps=3)
                code = 0
            finally:
                os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
