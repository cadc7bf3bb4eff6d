"""The CPU suite's summary and tables say what the rows do, and the pages are the rows'."""

import json
from pathlib import Path

import pytest

from revstep.bench.rows import read_rows
from suites.cpu import table
from suites.cpu.context import BASELINE, COMPILED, EAGER
from suites.cpu.plot import draw
from suites.cpu.targets import TARGETS, outcomes, summary

ROOT = Path(__file__).resolve().parents[2]
FORMS = {
    "ONNX Runtime": ("onnxruntime", "fp32", []),
    "ONNX Runtime, mish": ("onnxruntime", "fp32", ["mish"]),
    "OpenVINO": ("openvino", "fp32", []),
    "OpenVINO bf16": ("openvino", "bf16", []),
}


def _row(part, name, **figures):
    machine = {"commit": "abc", "versions": {"onnxruntime": "1.2"}}
    where = {"processor": "CPU", "baseline": "def", "machine": machine, "run": "2026-01-02T03"}
    return {"part": part, "name": name, "quick": False, "failed": {}, **where, **figures}


def _runs(ratio=4.0, **more):
    others = {name: {"ratio": ratio, "low": 3.9, "high": 4.1} for name in (BASELINE, EAGER)}
    seconds = {"fp32": {"p50": 0.2}}
    figures = {"ratios": {"fp32": others}, "seconds": seconds, **more}
    return _row("runs", "policy, batch 16, DDIM-50", **figures)


def _grid(batch=1, ratio=1.04):
    seconds = {name: {"p50": 1e-3 * (i + 1)} for i, name in enumerate(FORMS)}
    kinds = ("runtime", "precision", "rewrites")
    forms = {name: dict(zip(kinds, form, strict=True)) for name, form in FORMS.items()}
    over = {"ratio": ratio, "low": 1.0, "high": 1.1}
    choice = {"fp32": {"form": "ONNX Runtime, mish", "over_best": over}}
    found = {"network": "policy", "batch": batch, "seconds": seconds, "forms": forms}
    return _row("grid", f"policy, batch {batch}", choice=choice, **found)


def _of(rows, what):
    return next(o for o in outcomes(rows) if what in o.target.what)


def test_a_target_is_judged_by_its_rows_figure_and_interval():
    good, bad = (_of([_runs(r)], "fp32: as fast as the last landed") for r in (3.5, 3.49))
    assert (good.met, bad.met) == (True, False)
    assert good.interval == (3.9, 4.1)
    assert _of([_grid()], "choice for policy, batch 1, fp32").met is True


def test_a_target_of_batch_1_is_not_judged_by_batch_16():
    rows = [_grid(1, 1.5), _grid(16, 1.0)]
    found = [_of(rows, f"choice for policy, batch {n}, fp32") for n in (1, 16)]
    assert [o.value for o in found] == [1.5, 1.0]


def test_every_target_finds_a_row_of_the_last_measurement():
    found = outcomes(read_rows(ROOT / table.ROWS))
    assert [o.target.what for o in found if o.reason == "not measured"] == []


def test_a_figure_that_is_missing_has_its_own_reason():
    failed = {COMPILED: "no compiler", EAGER: "no diffusers"}
    row = _runs(failed=failed)
    assert _of([row], f"fp32: as fast as {COMPILED}").reason == f"{COMPILED}: no compiler"
    assert _of([_row("memory", "unet", reason="it fell")], "as exported").reason == "it fell"
    assert _of([row], "as exported").reason == "not measured"
    assert _of([row], "as exported").met is None


def test_the_summary_counts_what_was_met():
    text = summary([_runs(3.0)])
    assert "NOT met" in text
    assert "met      policy U-Net, batch 16, fp32: as fast as diffusers eager: 3.00x" in text
    assert f"1 of 2 targets met; 2 without a figure; {len(TARGETS) - 4} not measured" in text


def test_every_target_has_a_limit_and_a_row_of_its_own():
    assert all((t.at_least is None) != (t.at_most is None) for t in TARGETS)
    assert len({(t.part, t.row, t.figure) for t in TARGETS}) == len(TARGETS)


def test_units_are_the_limits():
    seconds = {"fixed": {"p50": 39e-6}, "a step": {"p50": 2e-6}}
    row = _row("loop", "a network that does nothing", seconds=seconds)
    fixed, step = _of([row], "fixed cost of `sample`"), _of([row], "cost of a step")
    assert (fixed.value, fixed.met, step.met) == (pytest.approx(39.0), True, False)
    assert (fixed.target.limit, fixed.target.shown(39.0)) == ("≤ 40 µs", "39 µs")


def test_the_last_row_of_a_name_counts_and_trials_do_not():
    rows = table.last_rows([_runs(1.0), _runs(5.0), {**_runs(9.0), "quick": True}])
    assert [row["ratios"]["fp32"][EAGER]["ratio"] for row in rows] == [5.0]


def test_the_tables_show_the_rows():
    assert "| policy, batch 16, DDIM-50 | fp32 | 200 ms | 4.00 | 4.00 | - |" in table.runs_table(
        [_runs()]
    )
    text = table.grid_table([_grid()])
    line = "| policy | 1 | 1 ms | 2 ms | 3 ms | - | 4 ms | - | ONNX Runtime, rewritten, 1.04 | - |"
    assert line in text
    assert "| **no** |" in table.targets_table([_runs(1.0)])


def test_a_block_is_filled_and_all_else_stays():
    text = "a\n<!-- cpu grid: begin -->\nold\n<!-- cpu grid: end -->\nb\n"
    filled = table.TABLES.filled(text, [_grid()])
    assert filled.startswith("a\n<!-- cpu grid: begin -->\n| network")
    assert filled.endswith("<!-- cpu grid: end -->\nb\n")
    assert table.TABLES.filled(filled, []) == text.replace("old\n", table.NOTHING)


def test_a_committed_row_is_no_trial():
    if (ROOT / table.ROWS).exists():
        lines = (ROOT / table.ROWS).read_text(encoding="utf-8").splitlines()
        assert not any(json.loads(line)["quick"] for line in lines)


def test_the_plot_is_a_picture_of_every_batch(tmp_path):
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("PIL.Image")
    draw([_grid(1), _grid(16)], tmp_path / "images" / "cpu.png")
    with image.open(tmp_path / "images" / "cpu.png") as picture:
        assert picture.width > 800
