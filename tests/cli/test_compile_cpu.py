"""``revstep compile --target cpu`` and ``revstep info``, as a user runs and reads them."""

import json

import pytest
from damage import snapshot
from fake_runtime import BROKEN, put_fake
from winners import put_winner

from revstep.commands.choices import choice_table
from revstep.engine.bundle.reader import Bundle
from revstep.export.targets.cpu import plan, process


def compiled(cli, path, *options):
    return cli("compile", path, "--target", "cpu", "--seconds", "0.3", "--threads", "1", *options)


@pytest.fixture
def alone(monkeypatch):
    monkeypatch.setattr(plan, "installed", lambda: ["onnxruntime"])


def test_where_nothing_passes_each_reason_has_its_line(cli, tabular_bundle, copy_of, monkeypatch):
    put_fake(monkeypatch, call="os.abort()")
    monkeypatch.setattr(process, "MAIN", BROKEN + process.MAIN)
    path = copy_of(tabular_bundle)
    before = snapshot(path)
    result = compiled(cli, path)
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert "  onnxruntime fp32, 1 thread: failed: division by zero" in lines
    assert "  openvino fp32, 1 thread: failed: division by zero" in lines
    assert snapshot(path) == before


@pytest.mark.parametrize("rows", ["4", "1,4"])
def test_json_lists_the_winners_be_it_one(cli, tabular_bundle, copy_of, alone, rows):
    path = copy_of(tabular_bundle)
    result = compiled(cli, path, "--batch", rows, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)["compiled"]
    assert found == [e.to_dict() for e in Bundle.open(path).compiled if e.target == "cpu"]


def test_the_table_says_what_was_tried_and_what_became_of_it(
    cli, tabular_bundle, copy_of, monkeypatch
):
    put_fake(monkeypatch, call="buffers.out[:] *= 1.1")
    path = copy_of(tabular_bundle)
    result = compiled(cli, path, "--batch", "4")
    assert result.exit_code == 0, result.stderr
    head, titles, row, *reasons = result.stdout.splitlines()
    assert head.startswith("batch 4: onnxruntime 1.")
    assert titles.split() == [
        *("runtime", "type", "graph", "thr", "ms", "low", "high", "speed", "call", "run"),
        "verdict",
    ]
    assert row.split()[:4] == ["onnxruntime", "fp32", "exported", "1"]
    assert row.split()[-1] == "chosen"
    assert any(
        line.startswith(
            "  openvino, fp32, 1 thread: wrong: one forward pass differs from the reference"
        )
        for line in reasons
    )
    assert result.stdout in cli("info", path).stdout


def test_rows_of_the_table_fall_with_the_speed_that_they_show():
    def row(name, ms, relative=None):
        return {
            "runtime": name, "precision": "fp32", "rewrites": [], "threads": 1, "ms": ms,
            "low_ms": ms, "high_ms": ms, "relative": relative, "status": "slower",
        }  # fmt: skip

    default = row("default", 4.0, 2.0)
    candidates = [default, row("early", 3.0), row("late", 2.0, 1.0), row("slow", 5.0)]
    names, speeds = ([*choice_table(candidates).columns[k].cells] for k in (0, 7))
    assert names == ["late", "early", "default", "slow"]
    assert speeds == ["2.00", "1.33", "1.00", "0.80"]


def test_info_lists_choices_by_rows(cli, tabular_bundle, copy_of):
    path = copy_of(tabular_bundle)
    for rows in (16, 1, 4):
        put_winner(path, rows)
    lines = cli("info", path).stdout.splitlines()
    heads = [line.split(":")[0] for line in lines if line.startswith("batch ")]
    assert [h for h in heads if h[6:].isdigit()] == ["batch 1", "batch 4", "batch 16"]
