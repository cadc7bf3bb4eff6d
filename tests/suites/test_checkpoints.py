"""The table of checkpoints: a kind measured for real, crashes and refusals, the page its rows'."""

from pathlib import Path

import numpy as np
import pytest

from suites.checkpoints import measure, table
from suites.checkpoints.kind import Kind, Made, error_of
from suites.checkpoints.stages import STAGES, said
from suites.cpu.table import last_rows

ROOT = Path(__file__).resolve().parents[2]
SLOW = [s.name for s in STAGES if s.name.startswith(("tensorrt", "openvino"))]


def kind_of(name):
    from suites.checkpoints.kinds import kind_named

    return kind_named(name)


def test_every_row_is_of_a_kind_that_there_is_and_names_differ():
    pytest.importorskip("diffusers")
    from revstep.bench.rows import read_rows
    from suites.checkpoints.kinds import all_kinds

    names = [kind.name for kind in all_kinds()]
    assert len(names) == len(set(names))
    assert set(names) >= {row["name"] for row in last_rows(read_rows(ROOT / table.ROWS))}


def test_a_kind_is_exported_checked_and_run_in_a_process_of_its_own():
    pytest.importorskip("onnxruntime")
    pytest.importorskip("torch")
    found = measure.measured(kind_of("rows of a table, rectified flow"), SLOW)
    stages = found["stages"]
    assert list(stages) == ["export", "onnxruntime fp32", "onnxruntime fp16", "whole"]
    assert 0.0 < stages["onnxruntime fp32"]["error"] < 1e-4
    assert 0.0 < stages["onnxruntime fp16"]["error"] < 1e-2
    assert 0.0 < stages["whole"]["error"] < 1e-4


def test_every_network_of_the_tests_that_is_a_kind_can_be_made(tmp_path):
    for package in ("onnxruntime", "torch", "tokenizers"):
        pytest.importorskip(package)
    from suites.checkpoints.modules import module_kinds

    for kind in module_kinds():
        assert isinstance(kind.make(tmp_path), Made)


def test_a_kind_that_no_process_knows_leaves_what_was_said():
    found = measure.measured(Kind("nobody's", "factory", "itself", lambda folder: None))
    assert list(found["stages"]) == ["export"]
    assert "no kind is named" in found["stages"]["export"]["said"]


def row(name, **stages):
    fields = {"source": "factory", "against": "x", "packages": {"torch": "2"}, "processor": "p"}
    return {"name": name, "stages": stages, "run": "2026-11-28T00:00", **fields}


def test_refusals_are_notes_that_are_numbered_once():
    refused = {"export": {"said": "no *form*"}}
    whole = {
        "export": {"megabytes": 1.0},
        "whole": {"error": 2.4e-6},
        "openvino fp32": {"said": "y"},
    }
    rows = [row("a", **refused), row("b", **refused), row("c", **whole)]
    text = table.kinds_table(rows)
    assert text.count("no (1)") == 2
    assert "| c | factory | yes | - | - | no (2) | - | - | - | 2e-06 |" in text
    assert table.notes_list(rows) == "1. no \\*form\\*\n2. y\n"
    assert table.against_list(rows) == "- x: a; b; c\n"


def test_an_errors_text_has_no_folders_of_this_machine():
    assert said(ValueError("/tmp/abc/x.revstep/denoiser.onnx\nis  bad")) == (
        "ValueError: denoiser.onnx is bad"
    )


def test_what_to_do_with_a_bundle_is_left_out_of_a_note():
    text = "ParityError: parity: a run differs by 2; the bundle is unchanged. Export it again"
    rows = [row("a", whole={"said": text})]
    assert table.notes_list(rows) == "1. a run differs by 2\n"
    assert "no (1)" in table.kinds_table(rows)


def test_errors_are_told_in_the_rms_or_in_a_scale_and_shapes_must_agree():
    want = np.array([3.0, 4.0])
    assert error_of((want + 0.1, want), 0.0) == pytest.approx(0.1 / np.sqrt(12.5))
    assert error_of((want + 0.1, want), 2.0) == pytest.approx(0.05)
    assert error_of((np.array([np.nan, 0.0]), want), 0.0) == np.inf
    with pytest.raises(ValueError, match="shape"):
        error_of((want[:1], want), 0.0)
    assert Made(export=lambda *_: None, whole=lambda e: (want, want)).scale == 0.0
