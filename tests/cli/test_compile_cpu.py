"""``revstep compile --target cpu`` and ``revstep info``, as a user runs and reads them."""

import json

import pytest
from damage import snapshot
from fake_runtime import BROKEN, put_fake

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


def test_json_lists_the_winners(cli, tabular_bundle, copy_of, alone):
    path = copy_of(tabular_bundle)
    result = compiled(cli, path, "--batch", "1,4", "--json")
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
        line.startswith("  openvino, fp32, 1 thread: wrong: one forward pass differs from PyTorch")
        for line in reasons
    )
    assert result.stdout in cli("info", path).stdout
