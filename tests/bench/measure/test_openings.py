"""A cell whose sides are opened anew, several times."""

import gc
import weakref

import pytest

import revstep
from revstep.bench.measure import openings as module
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.measure import OURS
from revstep.bench.measure.openings import Places, measure_openings
from revstep.bench.measure.rounds import Budget, Task
from revstep.bench.rows import starts_of
from revstep.engine.bundle.reader import Bundle
from revstep.errors import ParityError

pytest.importorskip("onnxruntime")

SHORT = Budget(runs=8, noise=0.0, warm_up=0.0)
CELL = Cell(steps=1)


class Opener:
    """Opens engines and counts what of them lives."""

    def __init__(self, path):
        self.path, self.opened, self.alive = path, [], []

    def __call__(self):
        self.alive.append(sum(ref() is not None for ref in self.opened))
        engine = revstep.load(self.path, threads=1)
        self.opened.append(weakref.ref(engine))
        return engine


@pytest.fixture
def opener(tabular_bundle):
    return Opener(tabular_bundle)


def measured(opener, openings, budget=SHORT, **more):
    return measure_openings(Bundle.open(opener.path), CELL, opener, budget, openings, **more)


def test_each_opening_is_let_go_before_the_next_and_the_last_is_kept(opener):
    gc.disable()  # what is in a cycle lives until it is looked for
    try:
        found = measured(opener, 3)
    finally:
        gc.enable()
    assert opener.alive == [0, 0, 0]
    assert found.work.engine is opener.opened[-1]()


def test_no_side_of_a_small_bundle_is_the_first_to_be_opened(opener, monkeypatch):
    def others(work):
        assert [ref() for ref in opener.opened if ref() is not None] == [work.engine]
        return [Task("other", work.sample)]

    measured(opener, 2, others=others)
    assert opener.alive == [0, 1, 0, 1]  # ours is the second, and the first is let go
    monkeypatch.setattr(module, "SMALL", 10)  # bytes
    opener.alive.clear()
    measured(opener, 2, others=others)
    assert opener.alive == [0, 0]


def test_a_row_says_which_run_belongs_to_which_opening(opener):
    made = []

    def others(work):
        made.append(work.engine)
        slow = len(made)
        return [Task("twin", lambda seed: [work.sample(seed) for _ in range(slow)])]

    found = measured(opener, 3, others=others)
    figures = found.figures
    assert [each["runs"] for each in figures["openings"]] == [3, 3, 2]
    assert len({id(engine) for engine in made}) == 3
    for name in (OURS, "twin"):
        assert starts_of(figures, name) == found.starts[name]
        assert [len(start) for start in found.starts[name]] == [3, 3, 2]
        assert figures["times_s"][name] == [t for start in found.starts[name] for t in start]
    assert figures["summary"]["runs"] == 8
    assert figures["warm_ups"] == 3
    assert figures["stopped"] == "runs"


def test_every_opening_is_checked_before_it_is_timed(opener, monkeypatch):
    from revstep.bench.measure import measure

    right, checks = measure.check_engine, []

    def check(engine, *more):
        checks.append(engine)
        if len(checks) == 2:
            raise ParityError("a whole run differs")
        return {**right(engine, *more), "error": 0.0}

    monkeypatch.setattr(measure, "check_engine", check)
    begun = []
    with pytest.raises(ParityError, match="a whole run differs"):
        measured(opener, 3, others=lambda work: begun.append(work) or [])
    assert (len(checks), len(begun)) == (2, 1)


def test_a_row_has_the_largest_error_of_all_openings(opener, monkeypatch):
    from revstep.bench.measure import measure

    errors = iter([1e-7, 3e-7, 2e-7])
    monkeypatch.setattr(measure, "check_engine", lambda *_: {"error": next(errors), "bound": 1e-3})
    assert measured(opener, 3).figures["correct"]["error"] == 3e-7


def test_ctrl_c_while_a_later_one_is_opened_keeps_those_before(opener):
    def stops():
        if len(opener.opened) == 2:
            raise KeyboardInterrupt
        return opener()

    found = measure_openings(Bundle.open(opener.path), CELL, stops, SHORT, 4)
    assert found.stopped == found.figures["stopped"] == "interrupted"
    assert [each["stopped"] for each in found.figures["openings"]] == ["runs", "runs"]
    assert found.work is None
    with pytest.raises(KeyboardInterrupt):
        measure_openings(Bundle.open(opener.path), CELL, stops, SHORT, 4)


def test_ctrl_c_in_an_opening_opens_no_other(opener):
    def stop(number):
        if number == 2:
            raise KeyboardInterrupt

    found = measured(opener, 3, others=lambda work: [Task("other", stop)])
    assert found.stopped == "interrupted"
    assert len(opener.opened) == 2  # the engine, and what it was opened beside
    assert [len(start) for start in found.starts[OURS]] == [1]


def test_progress_goes_on_from_opening_to_opening(opener):
    seen = []
    measured(opener, 4, progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert 0.25 in seen


def test_places_differ_and_are_those_of_their_seed(monkeypatch):
    def sizes(seed):
        places = Places(seed)
        for _ in range(8):
            places.move()
        return [len(held) for held in places._held]

    first = sizes(1)
    assert first == sizes(1) != sizes(2)
    assert len(set(first)) == 8
    assert all(1 <= size <= module.PADDING for size in first)
