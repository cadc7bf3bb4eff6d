"""The start-up suite: what it compares, and that the page is what its rows say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from suites.cpu.turns import Failed, Tree
from suites.startup import table
from suites.startup.table import BARE, NEW, OLD
from suites.startup.turns import PHASES, Request, Side, figures, take_turns

ROOT = Path(__file__).resolve().parents[2]
SIDES = (Side(OLD, "old"), Side(NEW, "new"), Side(BARE, "new", "bare"))
SCALE = {OLD: 1.0, NEW: 0.5, BARE: 0.25}


def _told(side, digest="a", slow=1.0):
    """Phases of 1, 2, 3 and 4 ms on the old side, from whenever it began."""
    unit = 1e-3 * SCALE[side.name] * slow
    ends = [7.0 + unit * n for n in (1, 3, 6, 10)]
    return {"begun": 7.0, "times": ends, "digest": digest}


def _row(**changes):
    rounds = iter(range(100))
    found = take_turns(
        SIDES, Path("x"), Request("one step", 1), 5,
        lambda side, *_: _told(side, slow=1.0 + next(rounds) // 3),
    )  # fmt: skip
    machine = {"cpu": "CPU", "python": "3", "versions": {"numpy": "2", "onnxruntime": "1"}}
    machine |= {"commit": "new", "time": "2026-01-02T03"}
    own = {"name": "one step", "cores": 1, "old_build": "old", "machine": machine}
    return {**own, **figures(found, OLD, NEW), **changes}


def test_phases_add_up_and_ratios_are_taken_round_by_round():
    row = _row()  # every round is slower than the last: the medians' ratio alone would say the same
    assert set(row["seconds"][NEW]) == set(PHASES)
    for name in SCALE:
        parts = [row["seconds"][name][p] for p in PHASES[:-1]]
        assert sum(parts) == pytest.approx(row["seconds"][name]["total"])
    assert row["over_old"][NEW]["ratio"] == pytest.approx(0.5)
    assert row["over_old"][BARE]["ratio"] == pytest.approx(0.25)
    assert row["phases_over_old"]["load"]["high"] == pytest.approx(0.5)


def test_the_first_round_warms_up_and_the_order_turns_round():
    asked = []
    take_turns(
        SIDES, Path("x"), Request("one step", 1), 2,
        lambda side, *_: asked.append(side.name) or _told(side),
    )  # fmt: skip
    first, second, third = asked[:3], asked[3:6], asked[6:]
    assert first == third == second[::-1]


def test_other_bits_are_no_start_up_to_compare():
    with pytest.raises(Failed, match="draws other bits"):
        take_turns(
            SIDES, Path("x"), Request("one step", 1), 2,
            lambda side, *_: _told(side, digest=side.name),
        )  # fmt: skip


def test_the_table_judges_the_ratio_and_the_last_row_counts():
    slow = _row(over_old={name: {"ratio": 0.9, "low": 0.8, "high": 1.0} for name in (NEW, BARE)})
    assert "| yes |" in table.totals_table([slow, _row()])
    assert "| **no** |" in table.totals_table([_row(), slow])
    assert "0.90 (0.80 to 1.00)" in table.totals_table([slow])


def test_real_processes_draw_the_same_bits_and_leave_a_row(tabular_bundle, tmp_path):
    output = tmp_path / "rows.jsonl"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "suites.startup.measure"),
            *("--old", sys.executable, "--new", sys.executable),
            *("--bundle", str(tabular_bundle), "--only", "one step"),
            *("--rounds", "2", "--output", str(output)),
        ],
        cwd=ROOT, env=Tree().environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "one step, 1 core(s): " in done.stdout
    row = json.loads(output.read_text(encoding="utf-8").splitlines()[0])
    assert len(row["rounds"][NEW]["total"]) == 2
    assert str(tabular_bundle.parent) not in output.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rounds", "1"], "allowed: 2 or more"),
        (["--cores", "0"], "allowed: 1 to"),
        (["--new", "nowhere/python"], "nowhere/python is no Python"),
    ],
)
def test_bad_arguments_are_named_before_anything_runs(arguments, said, capsys):
    from suites.startup.measure import main

    python = ["--old", sys.executable, "--new", sys.executable]
    with pytest.raises(SystemExit):
        main([*python, *arguments])
    assert said in capsys.readouterr().err
