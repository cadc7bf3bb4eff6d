"""``revstep compile`` for TensorRT, as a user runs it."""

import json

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx", exc_type=ImportError)

from revstep.engine.bundle.reader import Bundle

pytestmark = pytest.mark.tensorrt


def test_plans_of_several_batches_are_built_and_shown(cli, policy_bundle, copy_of):
    path = copy_of(policy_bundle)
    options = ("--target", "tensorrt_rtx", "--batch", "1,8", "--dynamic", "1:4:16", "--gpu",
               "sm_86,sm_89", "--memory-limit", "256M", "--optimization-level", "1")  # fmt: skip
    result = cli("compile", path, *options)
    assert result.exit_code == 0, result.stderr
    text = " ".join(result.stdout.split())
    assert "fp32, sm_86,sm_89, batch 1 parity: not checked on this machine" in text
    assert "fp32, sm_86,sm_89, batch 8 parity" in text
    assert "batch 1 to 16, tuned for 4" in text
    assert [e.batch for e in Bundle.open(path).compiled] == [(1, 1), (8, 8), (1, 16)]
    shown = " ".join(cli("info", path).stdout.split())
    assert "batch 1 to 16, tuned for 4" in shown
    assert "not checked on this machine" in shown


def test_keep_going_compiles_what_it_can_and_fails_at_the_end(cli, policy_bundle, copy_of):
    path = copy_of(policy_bundle)
    options = ("--target", "tensorrt_rtx", "--target", "onnxruntime", "--gpu", "sm_90",
               "--threads", "1", "--json")  # fmt: skip
    stopped = cli("compile", path, *options)
    assert stopped.exit_code == 1
    assert "can't build for sm_90" in " ".join(stopped.stderr.split())
    assert Bundle.open(path).compiled == ()
    result = cli("compile", path, *options, "--keep-going")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [entry["target"] for entry in report["compiled"]] == ["onnxruntime"]
    assert [failure["job"] for failure in report["failed"]] == ["tensorrt_rtx, fp32"]
    assert "can't build for sm_90" in report["failed"][0]["error"]
    assert "can't build for sm_90" in " ".join(result.stderr.split())
    assert [entry.target for entry in Bundle.open(path).compiled] == ["onnxruntime"]
