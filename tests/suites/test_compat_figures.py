"""The suite of RevstepScheduler: a trial of it, and its page is the rows'."""

import json
from pathlib import Path

import pytest

pytest.importorskip("diffusers")

from revstep.bench.rows import read_rows
from suites.compat import measure, table
from suites.cpu.table import last_rows

ROOT = Path(__file__).resolve().parents[2]


def test_a_trial_measures_both_sides_after_comparing_them(tmp_path, monkeypatch, capsys):
    out = tmp_path / "rows.jsonl"
    monkeypatch.setattr("sys.argv", ["measure", "DDIM", "--quick", "--out", str(out)])
    measure.main()
    row = json.loads(out.read_text())
    assert row["quick"]
    assert row["error"] < measure.TOLERANCE
    assert min(row["diffusers_us"], row["revstep_us"], row["ratio"]["low"], row["noise_us"]) > 0
    assert "DDIM" in capsys.readouterr().out
    assert "DDIM" not in table.steps_table([row])  # a trial is no result


def test_sides_that_differ_are_not_timed(monkeypatch):
    monkeypatch.setattr(measure, "TOLERANCE", 0.0)
    with pytest.raises(AssertionError, match="UniPC: "):
        measure.measure("UniPC", 1)


def test_the_page_has_the_committed_rows():
    rows = last_rows(read_rows(ROOT / measure.ROWS))
    assert {row["name"] for row in rows} == set(measure.CASES)
    page = (ROOT / table.PAGE).read_text(encoding="utf-8")
    assert page.count("**no**") == sum(row["ratio"]["ratio"] < measure.TARGET for row in rows)
