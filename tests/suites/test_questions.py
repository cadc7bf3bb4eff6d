"""The questions run, what they compare agrees, and their rows say what was measured."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from revstep.bench.rows import read_rows
from suites.cpu.turns import ROOT, Tree
from suites.questions import measure, table
from suites.questions.compare import OURS, Compare

SLOW = {"load", "import", "runs"}  # exports, and processes that import diffusers


@pytest.mark.parametrize(
    "questions",
    [
        pytest.param(sorted({*measure.QUESTIONS} - SLOW), id="quick"),
        pytest.param(sorted(SLOW), id="slow", marks=pytest.mark.slow),
    ],
)
def test_every_question_runs_once_and_its_sides_agree(questions):
    for package in ("diffusers", "torch", "onnxruntime", "pytest_benchmark"):
        pytest.importorskip(package)
    files = [str(measure.HERE / f"bench_{name}.py") for name in questions]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", *files, "--benchmark-disable"],
        cwd=ROOT, env=Tree().environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout


class Fixture:
    """What pytest-benchmark's fixture does of what is used, by a clock that is made up."""

    def __init__(self, *, disabled=False):
        self.disabled, self.extra_info = disabled, {}
        self.stats = SimpleNamespace(stats=SimpleNamespace(median=1.0, iqr=0.05))
        self.rounds = 0

    def pedantic(self, target, setup=lambda: None, rounds=1, warmup_rounds=0):
        for number in range(warmup_rounds + rounds):
            setup()
            target()
            self.rounds += number >= warmup_rounds


def test_a_baseline_has_a_round_before_each_of_ours_in_an_order_that_turns():
    ran, fixture = [], Fixture()
    compare = Compare(fixture, seconds=0.0, least=4)
    sides = {name: lambda name=name: spent(ran.append(name)) for name in (OURS, "a", "b")}
    compare("a case", sides.pop(OURS), sides, per=10, apart=0.5)
    turns = [name for name, before in zip(ran, [None, *ran], strict=False) if name != before]
    order = "".join(turns).replace(OURS, "|")
    assert order.endswith("ab|ba|ab|ba|ab|")  # a warm-up, and four
    info = fixture.extra_info
    assert fixture.rounds == 4
    assert {name: len(found) for name, found in info["others"].items()} == {"a": 4, "b": 4}
    assert (info["case"], info["apart"], info["each"][OURS] % 10) == ("a case", 0.5, 0)


def spent(_):
    """Some processor time."""
    return sum(range(20000))


def test_a_trial_runs_every_side_once():
    ran = []
    sides = {name: lambda name=name: ran.append(name) for name in (OURS, "a", "b")}
    Compare(Fixture(disabled=True), 1.0, 5)("a case", sides.pop(OURS), sides)
    assert sorted(ran) == ["a", "b", OURS]


def _found(ours=(2.0, 2.0, 2.2), theirs=(8.0, 8.0, 8.8)):
    info = {
        "case": "16 x 3", "each": {OURS: 2, "numpy": 4}, "others": {"numpy": list(theirs)},
        "apart": 1e-6, "disturbance": {"verdict": "noisy"},
    }  # fmt: skip
    return {
        "fullname": "suites/questions/bench_step.py::test_step[16]",
        "stats": {"data": list(ours)}, "extra_info": info,
    }  # fmt: skip


def test_a_row_has_times_of_one_call_and_ratios_of_rounds_that_ran_together():
    figures = measure.figures_of(_found())
    assert (figures["question"], figures["case"]) == ("step", "16 x 3")
    assert figures["times_s"] == {OURS: [1.0, 1.0, 1.1], "numpy": [2.0, 2.0, 2.2]}
    assert figures["seconds"][OURS] == {"median": 1.0, "iqr": pytest.approx(0.05), "rounds": 3}
    assert figures["ratios"]["numpy"] == {
        "ratio": 2.0, "low": 2.0, "high": 2.0, "verdict": "faster"
    }  # fmt: skip
    assert measure.said(figures) == "step: 16 x 3: 1 s; 2.00 [2.00, 2.00] as fast as numpy (faster)"


def test_a_case_without_a_baseline_has_a_time_alone():
    found = _found()
    found["extra_info"]["others"] = {}
    figures = measure.figures_of(found)
    assert figures["ratios"] == {}
    assert measure.said(figures) == "step: 16 x 3: 1 s"


def test_the_table_has_every_baseline_and_the_last_row_of_a_case():
    first, last = ({**measure.figures_of(_found(ours)), "x": 1} for ours in ((4, 4, 4), (2, 2, 2)))
    alone = {**last, "case": "other", "ratios": {}}
    text = table.question_table("step", [first, last, alone])
    assert "| case | revstep | numpy | as fast (95 %) |" in text
    assert "| 16 x 3 | 1 s | 2 s | 2 (2 to 2.2) |" in text
    assert "| other | 1 s | - | - |" in text
    assert len(text.splitlines()) == 4


def test_seconds_must_be_above_0(capsys):
    with pytest.raises(SystemExit):
        measure.main(["--seconds", "0"])
    assert "--seconds 0.0 must be above 0" in capsys.readouterr().err


def test_the_committed_rows_answer_every_question():
    rows = read_rows(ROOT / table.ROWS)
    assert {row["question"] for row in rows} == set(measure.QUESTIONS)
    for row in rows:
        assert row["machine"]["commit"]
        assert len({len(times) for times in row["times_s"].values()}) == 1
        assert row["disturbance"]["verdict"] in ("quiet", "noisy", "throttled")
