"""Contenders of the CPU suite take turns in processes of their own, and are compared first."""

import math

import pytest

from suites.cpu.context import Measurement, figures, times_as_fast
from suites.cpu.turns import OURS, Contender, Failed, Process, Tree, take_turns
from suites.cpu.worker import Worker, peak_memory


@pytest.fixture(scope="module")
def core():
    from suites.cpu.context import last_core

    return last_core()


def _sample(bundle, name="ours", **options):
    asked = {"bundle": str(bundle), "batch": 2, "steps": 3, "backend": "onnxruntime"}
    bound = options.pop("bound", 1e-6)
    return Contender(name, "sample", {**asked, **options}, bound=bound)


def test_sides_have_times_of_equal_rounds_and_equal_results(policy_bundle, core):
    sides = [_sample(policy_bundle), _sample(policy_bundle, "prepared", prepared=True)]
    sides.append(Contender("bare", "bare", {"bundle": str(policy_bundle), "batch": 2, "steps": 3}))
    found = take_turns(sides, core=core, starts=2, minimum=2, maximum=2)
    assert not found.failed
    assert {name: [*map(len, times)] for name, times in found.times.items()} == {
        "ours": [2, 2],
        "prepared": [2, 2],
        "bare": [2, 2],
    }
    assert found.errors == {"ours": 0.0, "prepared": 0.0}
    assert found.told["ours"]["threads"] == 1
    ratio = times_as_fast(found, "ours", {"prepared": "prepared", "gone": "gone"})
    assert set(ratio) == {"prepared"}
    assert 0.0 < ratio["prepared"]["low"] <= ratio["prepared"]["ratio"] <= ratio["prepared"]["high"]
    assert figures(found)["seconds"]["bare"]["rounds"] == 4


def test_who_is_wrong_or_fails_is_left_out_with_the_reason(policy_bundle, core):
    sides = [
        _sample(policy_bundle),
        _sample(policy_bundle, "other steps", steps=2),
        _sample(policy_bundle, "missing", precision="fp64"),
        Contender("no such kind", "nonsense", {}),
    ]
    found = take_turns(sides, core=core, starts=1, minimum=1, maximum=1)
    assert list(found.times) == ["ours"]
    assert "differs by" in found.failed["other steps"]
    assert "fp64" in found.failed["missing"]
    assert "nonsense" in found.failed["no such kind"]


def test_a_process_that_ends_is_a_failure_and_not_an_end():
    process = Process(Tree("/bin/false"), None)
    with pytest.raises(Failed, match="ended with 1"):
        process.ask(do="peak")
    process.close()


def test_a_folder_that_is_no_build_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no virtual environment"):
        Tree.at(tmp_path)


def test_the_baseline_may_be_a_ready_checkout(tmp_path):
    (tmp_path / "src/revstep/engine").mkdir(parents=True)
    tree = Tree.at(tmp_path)
    assert tree.environment()["PYTHONPATH"].startswith(f"{tmp_path}/src:")
    assert tree != OURS


def test_a_failed_case_is_a_row_and_the_suite_goes_on(tmp_path, core):
    run = Measurement(tmp_path, core, "now", quick=True, output=tmp_path / "rows.jsonl")
    run.case("runs", "broken", lambda: {"value": 1 / 0})
    run.case("runs", "well", lambda: {"value": 1.0})
    assert [row.get("reason") for row in run.rows] == ["ZeroDivisionError: division by zero", None]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


def test_a_steps_cost_is_timed_in_as_many_runs_as_take_a_moment():
    worker = Worker()
    worker.answer({"do": "open", "name": "step", "kind": "loop", "options": {"fixed": False}})
    seconds = worker.answer({"do": "time", "name": "step"})["seconds"]
    assert 0.0 < seconds < 1e-3
    assert worker._repeats["step"] < 1000
    assert peak_memory() > 1 << 20


def test_a_trace_is_never_found_in_a_cache():
    from suites.cpu.tasks import trace

    task = trace("ddim", 3)
    first, second = task.call(), task.call()
    assert first is not second
    assert first.length == second.length == 3


@pytest.mark.slow
def test_the_peers_run_is_ours(tmp_path, core):
    pytest.importorskip("diffusers")
    run = Measurement(tmp_path, core, "now", quick=True)
    bundle = run.bundle("mlp")
    sides = [_sample(bundle, bound=1e-3)]
    sides.append(Contender("eager", "peer", {"network": "mlp", "batch": 2, "steps": 3}, bound=1e-3))
    found = take_turns(sides, core=core, starts=1, minimum=1, maximum=1)
    assert not found.failed
    assert 0.0 <= found.errors["eager"] < 1e-4
    assert not math.isnan(found.times["eager"][0][0])
