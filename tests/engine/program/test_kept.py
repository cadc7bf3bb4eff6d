"""Programs kept across engines."""

import dataclasses
import gc
import os
import signal
import threading
import weakref

import numpy as np
import pytest
from networks import NumpyDenoiser
from specs import spec_of

import revstep
from revstep.engine.engine import Engine
from revstep.engine.program.guidance import GuidanceInterval
from revstep.engine.program.kept import KEPT, ProgramCache, kept_program
from revstep.engine.program.table import build_program
from revstep.errors import ProgramError
from revstep.grids import Grid, ShiftedGrid, TrailingGrid
from revstep.samplers import DDIM
from revstep.schedules import FlowSchedule, VPSchedule


@pytest.fixture(autouse=True)
def _nothing_kept():
    KEPT.clear()
    yield
    KEPT.clear()


@pytest.fixture
def traced(monkeypatch):
    """The samplers that engines trace, in their order."""
    seen = []

    def build(spec, sampler, *arguments, **options):
        seen.append(sampler)
        return build_program(spec, sampler, *arguments, **options)

    monkeypatch.setattr("revstep.engine.engine.build_program", build)
    return seen


def _engine(**fields):
    return Engine(NumpyDenoiser(spec_of(shape=(4,), **fields), lambda x, t, _: 0.0 * x))


def _conditional():
    condition = revstep.Condition(name="label", dtype="int64", classes=3, null=0)
    return _engine(conditions=(condition,))


def test_engines_of_equal_specs_trace_a_built_in_sampler_once(traced):
    for engine in (_engine(), _engine()):
        engine.sample(1, sampler="dpmpp_2m", steps=5, seed=0)
        engine.sample(2, sampler="dpmpp_2m", steps=5, seed=1)
    assert len(traced) == 1
    assert len(KEPT) == 1


def test_equal_guidance_weights_share_too(traced):
    for engine in (_conditional(), _conditional()):
        engine.sample(
            1, steps=5, seed=0, guidance=2.0, conditions={"label": 1},
            guidance_weight=GuidanceInterval(0.3, 5.0),
        )  # fmt: skip
    assert len(traced) == 1


def test_engines_of_other_specs_and_other_arguments_trace_for_themselves(traced):
    _engine().sample(1, steps=5, seed=0)
    _engine(schedule=VPSchedule(steps=500)).sample(1, steps=5, seed=0)
    _engine(schedule=FlowSchedule(), prediction="flow").sample(1, steps=5, seed=0)
    _engine().sample(1, steps=6, seed=0)
    _engine().sample(1, steps=5, seed=0, grid="leading")
    assert len(traced) == 5


def test_what_an_engine_ran_stays_with_it(traced):
    engine = _engine()
    engine.sample(1, steps=5, seed=0)
    KEPT.clear()
    engine.sample(1, steps=5, seed=0)
    assert len(traced) == 1


@dataclasses.dataclass(frozen=True)
class Half(DDIM):
    """DDIM of another name; an engine may keep it, but no other engine is to take it."""


class Own(Grid):
    """Times of a user's own."""

    def natural_times(self, schedule, time, steps):
        return TrailingGrid().natural_times(schedule, time, steps)


@revstep.sampler
def walk(run):
    """DDIM."""
    x = run.x
    for now, then in run.steps:
        d = run.denoise(x, now)
        x = then.alpha * d.x0 + then.sigma * d.eps
    return x


@pytest.mark.parametrize("sampler", [walk, Half()], ids=["function", "subclass"])
def test_a_sampler_of_the_users_own_is_kept_by_its_engine_alone(traced, sampler):
    for engine in (_engine(), _engine()):
        engine.sample(1, sampler=sampler, steps=3, seed=0)
        engine.sample(1, sampler=sampler, steps=3, seed=1)
    assert len(traced) == 2
    assert len(KEPT) == 0


@pytest.mark.parametrize("inside", [False, True])
def test_a_grid_of_the_users_own_is_kept_by_its_engine_alone(traced, inside):
    own = Own()
    fields = {"schedule": FlowSchedule(), "prediction": "flow"}
    for engine in (_engine(**fields), _engine(**fields)):
        for seed in (0, 1):
            engine.sample(1, steps=3, seed=seed, grid=ShiftedGrid(2.0, own) if inside else own)
    assert len(traced) == 2
    assert len(KEPT) == 0


def test_what_a_weight_of_the_users_own_holds_is_given_up_with_its_engine():
    class Large:
        """What a closure holds."""

    held = Large()
    alive = weakref.ref(held)
    engine = _conditional()
    engine.sample(
        1, steps=3, seed=0, guidance=2.0, conditions={"label": 1},
        guidance_weight=lambda at, held=held: 1.0,
    )  # fmt: skip
    del held, engine
    gc.collect()
    assert alive() is None


def test_a_spec_that_has_no_hash_is_sampled_and_shared_with_nobody(traced):
    @dataclasses.dataclass(frozen=True)
    class Knots(FlowSchedule):
        """Holds a list."""

        knots: list = dataclasses.field(default_factory=list)

    for _ in range(2):
        _engine(schedule=Knots(), prediction="flow").sample(1, steps=3, seed=0)
    assert len(traced) == 2
    assert len(KEPT) == 0


def test_a_condition_s_example_does_not_count(traced):
    for example in (np.ones(2, np.float32), None):
        condition = revstep.Condition(name="goal", shape=(2,), null=0.0, example=example)
        _engine(conditions=(condition,)).sample(1, steps=3, seed=0)
    assert len(traced) == 1


def test_inversions_are_kept_apart_from_runs():
    engine, other = _engine(), _engine()
    x0 = np.ones((1, 4), np.float32)
    noise = engine.invert(x0, steps=4)
    assert len(KEPT) == 1
    np.testing.assert_array_equal(other.invert(x0, steps=4), noise)
    assert len(KEPT) == 1
    engine.sample(noise=noise, steps=4)
    assert len(KEPT) == 2


PROGRAMS = {steps: build_program(spec_of(shape=(4,)), "ddim", steps) for steps in (10, 11, 12)}
OF_TWO = sum(p.rows.nbytes + p.table.nbytes + 256 * len(p.points) for p in PROGRAMS.values()) - 1


@pytest.mark.parametrize("limits", [{"size": OF_TWO}, {"programs": 2}])
def test_the_least_recently_used_is_given_up_beyond_the_limit(limits):
    cache = ProgramCache(**limits)
    for steps in (10, 11, 10, 12):  # 11 goes
        assert cache.get(steps, lambda steps=steps: PROGRAMS[steps]) is PROGRAMS[steps]
    asked = []
    for steps in (10, 12, 11):
        cache.get(steps, lambda steps=steps: asked.append(steps) or PROGRAMS[steps])
    assert asked == [11]
    assert len(cache) == 2


def test_a_program_larger_than_the_limit_is_kept_alone():
    cache = ProgramCache(size=1)
    for steps in (10, 11):
        assert cache.get(steps, lambda steps=steps: PROGRAMS[steps]) is PROGRAMS[steps]
    assert len(cache) == 1
    assert cache.get(11, lambda: PROGRAMS[10]) is PROGRAMS[11]


def test_what_fails_is_not_kept(traced):
    for engine in (_engine(), _engine()):
        with pytest.raises(ProgramError, match="flow schedule"):
            engine.sample(1, sampler="flow_euler", steps=3, seed=0)
    assert len(traced) == 2
    assert len(KEPT) == 0


def test_threads_that_ask_at_once_get_one_program():
    spec, together, found = spec_of(shape=(4,)), threading.Barrier(4), []

    def ask():
        together.wait()
        found.append(kept_program(build_program, spec, sampler="unipc", steps=30))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len({id(program) for program in found}) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("held", [False, True])
def test_a_child_goes_on_with_the_programs_or_anew_where_a_thread_held_them(held):
    spec = spec_of(shape=(4,))
    kept_program(build_program, spec, sampler="ddim", steps=3)
    if held:
        KEPT._lock.acquire()
    try:
        child = os.fork()
        if child == 0:
            code = 2
            signal.alarm(20)  # so that a wait for ever fails
            try:
                before = len(KEPT)
                kept_program(build_program, spec, sampler="ddim", steps=4)
                code = (before, len(KEPT)) != ((0, 1) if held else (1, 2))
            finally:
                os._exit(code)
    finally:
        if held:
            KEPT._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
