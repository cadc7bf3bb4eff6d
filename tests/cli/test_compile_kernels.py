"""``revstep compile --kernels``, as a user runs it."""

import json
import sys

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("triton", reason="Triton is not installed")

from revstep.engine.bundle.kernels import KernelFiles
from revstep.engine.bundle.reader import Bundle


def test_kernels_alone_are_compiled_and_shown(cli, policy_bundle, copy_of):
    path = copy_of(policy_bundle)
    result = cli("compile", path, "--kernels", "--gpu", "sm_80")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "kernels: 14 kernels for sm_80 and as portable PTX\n"
    opened = Bundle.open(path)
    assert opened.compiled == ()
    shown = " ".join(cli("info", path).stdout.split())
    assert "kernels 14 kernels for sm_80 and as portable PTX, " in shown
    assert ".cubin" not in shown
    report = json.loads(cli("compile", path, "--kernels", "--gpu", "sm_80", "--json").stdout)
    assert report["compiled"] == report["failed"] == []
    assert report["kernels"]["targets"] == ["sm_80"]
    assert report["kernels"]["files"] == list(KernelFiles.of(opened).names)
    both = cli("compile", path, "--kernels", "--gpu", "sm_80", "--target", "onnxruntime",
               "--threads", "1")  # fmt: skip
    assert both.exit_code == 0, both.stderr
    assert both.stdout.startswith("kernels: 14 kernels for sm_80")
    assert "onnxruntime" in both.stdout
    assert [entry.target for entry in Bundle.open(path).compiled] == ["onnxruntime"]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--kernels", "--gpu", "sm_70"), 2, "can't be compiled for sm_70; allowed: sm_80"),
        (("--kernels", "--gpu", "H200"), 2, "written sm_<compute capability>"),
        (
            ("--kernels", "--batch", "8"),
            2,
            "--batch or --dynamic is for the targets cpu, tensorrt and tensorrt_rtx, not",
        ),
        (
            ("--kernels", "--memory-limit", "1G"),
            2,
            "--memory-limit is for the targets tensorrt and tensorrt_rtx",
        ),
        (
            ("--kernels", "--run-bound", "1"),
            2,
            "is for the targets onnxruntime, cpu, tensorrt and tensorrt_rtx, not for kernels",
        ),
        (("--gpu", "sm_89"), 2, "--gpu is for the targets tensorrt_rtx and kernels"),
    ],
)
def test_options_that_do_not_fit_are_refused(cli, policy_bundle, copy_of, options, code, message):
    path = copy_of(policy_bundle)
    result = cli("compile", path, *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.split())
    assert KernelFiles.of(Bundle.open(path)) is None


def test_without_triton_the_extra_is_named(cli, policy_bundle, copy_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    result = cli("compile", copy_of(policy_bundle), "--kernels")
    assert result.exit_code == 1
    assert "pip install 'revstep[triton]'" in " ".join(result.stderr.split())


def test_keep_going_reports_the_kernels_and_compiles_the_rest(
    cli, policy_bundle, copy_of, monkeypatch
):
    monkeypatch.setitem(sys.modules, "triton", None)
    path = copy_of(policy_bundle)
    options = ("--kernels", "--target", "onnxruntime", "--threads", "1", "--json")
    assert cli("compile", path, *options).exit_code == 1
    assert Bundle.open(path).compiled == ()
    result = cli("compile", path, *options, "--keep-going")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [entry["target"] for entry in report["compiled"]] == ["onnxruntime"]
    assert [failure["job"] for failure in report["failed"]] == ["kernels"]
    assert report["kernels"] is None
