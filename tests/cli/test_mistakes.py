"""Every mistake and failure ends with one message, no traceback, and the right exit code."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

SAMPLE = ("sample", "{image}", "-o", "{tmp}/out.png")
MISTAKES = {
    "no such bundle": (("info", "{tmp}/none.revstep"), "none.revstep"),
    "unknown sampler": ((*SAMPLE, "--sampler", "ddin"), "allowed: ddim"),
    "unknown sampler option": ((*SAMPLE, "--set", "ita=1"), "no option ita"),
    "sampler option out of range": ((*SAMPLE, "--set", "eta=2"), "eta"),
    "sampler option without a value": ((*SAMPLE, "--set", "eta"), "name=value"),
    "no steps": ((*SAMPLE, "--steps", "0"), "--steps 0 is out of range"),
    "more steps than the schedule": ((*SAMPLE, "--steps", "1001"), "1 to 1000"),
    "negative seed": ((*SAMPLE, "--seed", "-1"), "seed -1 is out of range"),
    "seed of 65 bits": ((*SAMPLE, "--seed", str(1 << 64)), "out of range"),
    "unknown condition": ((*SAMPLE, "--condition", "colour=1"), "no condition 'colour'"),
    "class out of range": ((*SAMPLE, "--class", "5"), "allowed: 0 to 4"),
    "class that is no number": ((*SAMPLE, "--class", "boot"), "must be numbers"),
    "class that is a fraction": ((*SAMPLE, "--class", "1.5"), "whole numbers"),
    "condition given twice": ((*SAMPLE, "--class", "1", "--condition", "label=1"), "given twice"),
    "no samples": ((*SAMPLE, "-n", "0"), "-n 0 is out of range; allowed: whole numbers, 1 or more"),
    "fewer than no samples": ((*SAMPLE, "-n", "-3"), "-n -3 is out of range"),
    "more samples than memory": ((*SAMPLE, "-n", str(10**15)), f"-n {10**15} samples take"),
    "more samples than a number": ((*SAMPLE, "-n", str(10**30)), f"-n {10**30} samples take"),
    "samples that don't share evenly": ((*SAMPLE, "--class", "0-2", "-n", "4"), "multiple of"),
    "batch size of nothing": ((*SAMPLE, "--batch-size", "0"), "--batch-size 0 is out of range"),
    "batch size beyond the engine": (
        (*SAMPLE, "--batch-size", "65"),
        "--batch-size 65 is out of range",
    ),
    "unknown grid by the option's old name": (
        (*SAMPLE, "--spacing", "wide"),
        "trailing, leading, linspace",
    ),
    "unknown grid": ((*SAMPLE, "--time-grid", "wide"), "trailing, leading, linspace"),
    "strength without a start": ((*SAMPLE, "--strength", "0.5"), "--strength goes with --start"),
    "columns without a grid": ((*SAMPLE, "--columns", "2"), "--columns goes with --grid"),
    "guidance without a class": ((*SAMPLE, "--guidance", "2"), "--class or --condition"),
    "unknown backend": ((*SAMPLE, "--backend", "abacus"), "unknown backend 'abacus'"),
    "precision that is not there": (
        ("sample", "{policy}", "-o", "{tmp}/out.npy", "--precision", "fp16"),
        "revstep export",
    ),
    "guidance without a condition": (
        ("sample", "{tabular}", "-o", "{tmp}/out.npy", "--guidance", "2"),
        "guidance",
    ),
    "class without a class label": (
        ("sample", "{policy}", "-o", "{tmp}/out.npy", "--class", "1"),
        "--condition",
    ),
    "a condition of a wrong size": (
        ("sample", "{policy}", "-o", "{tmp}/out.npy", "--condition", "observation=1,2"),
        "4 numbers",
    ),
    "pictures of what is none": (
        ("sample", "{policy}", "-o", "{tmp}/out.png", "--condition", "observation=0,0,0,0"),
        "use -o samples.npy",
    ),
    "grid of what is no picture": (("sample", "{tabular}", "--grid"), "no pictures"),
    "unknown suffix": (("sample", "{image}", "-o", "{tmp}/out.jpg"), ".png or .npy"),
    "folder that is not there": (("sample", "{image}", "-o", "{tmp}/a/out.png"), "does not exist"),
    "grid of an array": (("sample", "{image}", "-o", "{tmp}/out.npy", "--grid"), "--grid"),
    "start that is not there": ((*SAMPLE, "--start", "{tmp}/none.npy"), "none.npy"),
    "nothing to export": (("export", "-o", "{tmp}/x.revstep"), "factory"),
    "factory that is not there": (("export", "no_such_module:build", "-o", "{tmp}/x"), "no_such"),
    "factory of no form": (
        ("export", "no_such_module", "-o", "{tmp}/x"),
        "package.module:function",
    ),
    "factory of an unknown precision": (
        ("export", "no_such_module:build", "-o", "{tmp}/x", "--precision", "fp32,fp8"),
        "--precision fp8",
    ),
    "factory of an unknown opset": (
        ("export", "no_such_module:build", "-o", "{tmp}/x", "--opset", "23"),
        "Invalid value for '--opset'",
    ),
    "bundle that is there already": (
        ("export", "no_such_module:build", "-o", "{tabular}"),
        "--overwrite",
    ),
    "no diffusers folder": (("export", "--diffusers", "{tmp}", "-o", "{tmp}/x"), "{tmp}"),
    "unknown target": (("compile", "{tabular}", "--target", "abacus"), "abacus"),
    "a batch for a target without": (
        ("compile", "{tabular}", "--target", "onnxruntime", "--batch", "8"),
        "not for onnx",
    ),
    "a GPU for a target without": (("compile", "{tabular}", "--gpu", "sm_89"), "not for cpu"),
    "seconds for a target without": (
        ("compile", "{tabular}", "--target", "onnxruntime", "--seconds", "8"),
        "--seconds is for the target cpu, not for onnxruntime",
    ),
    "a range for a target of single rows": (
        ("compile", "{tabular}", "--target", "cpu", "--dynamic", "1:2:4"),
        "measures single numbers of rows, as --batch 1,16",
    ),
    "rows outside the spec's": (
        ("compile", "{tabular}", "--target", "cpu", "--batch", "1,4000"),
        "batch 4000 is outside the 1 to",
    ),
    "int8": (
        ("compile", "{tabular}", "--target", "cpu", "--precision", "int8"),
        "--precision int8: int8 is not offered: after post-training quantisation",
    ),
    "auto for a target without": (
        ("compile", "{tabular}", "--target", "onnxruntime", "--precision", "auto"),
        "allowed: fp32, fp16, bf16 (auto is for the target cpu)",
    ),
    "fp16 for cpu": (
        ("compile", "{tabular}", "--target", "cpu", "--precision", "fp16"),
        "allowed: fp32, bf16, auto (fp16 is for the targets onnxruntime, tensorrt and tensor",
    ),
    "an empty target": (("compile", "{tabular}", "--target", "tensorrt_rtx,"), "commas between"),
    "a batch of nothing": (
        ("compile", "{tabular}", "--target", "tensorrt_rtx", "--batch", "0,1"),
        "--batch must be whole numbers of at least 1",
    ),
    "a profile of two": (
        ("compile", "{tabular}", "--target", "tensorrt_rtx", "--dynamic", "1:8"),
        "min:opt:max",
    ),
    "a falling profile": (
        ("compile", "{tabular}", "--target", "tensorrt_rtx", "--dynamic", "8:1:4"),
        "min <= opt <= max",
    ),
    "a memory limit of no size": (
        ("compile", "{tabular}", "--target", "tensorrt_rtx", "--memory-limit", "lots"),
        "512M or 2G",
    ),
    "bench of nothing": (("bench", "{tabular}", "--batch", "0"), "--batch"),
    "demo elsewhere": (("demo", "--model", "{tmp}", "-o", "{tmp}/demo"), "UNet2DModel"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_reported_with_code_2(
    name, cli, tmp_path, image_bundle, policy_bundle, tabular_bundle
):
    places = {
        "tmp": tmp_path,
        "image": image_bundle,
        "policy": policy_bundle,
        "tabular": tabular_bundle,
    }
    arguments, message = MISTAKES[name]
    result = cli(*(a.format(**places) for a in arguments))
    assert result.exit_code == 2, result.stderr
    assert message.format(**places) in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_bundle_is_named(process, copy_of, tabular_bundle, tmp_path):
    bundle = copy_of(tabular_bundle)
    graph = bundle / "denoiser.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    for command in (("info",), ("compile",), ("sample", "-o", "x.npy"), ("bench",)):
        result = process(command[0], bundle, *command[1:])
        assert result.returncode == 2
        assert "denoiser.fp32.onnx" in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "x.npy").exists()


def test_a_start_that_is_a_pickle_is_refused(cli, tabular_bundle, tmp_path):
    import numpy as np

    np.save(tmp_path / "start.npy", np.array([{}], dtype=object), allow_pickle=True)
    result = cli(
        "sample", tabular_bundle, "-o", tmp_path / "x.npy", "--start", tmp_path / "start.npy"
    )
    assert result.exit_code == 2
    assert "start.npy" in result.stderr


def test_a_full_disk_is_the_machines_failure_and_leaves_nothing(
    cli, tabular_bundle, tmp_path, monkeypatch
):
    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "x.npy").write_bytes(b"old")
    monkeypatch.setattr("revstep.engine.system.files.os.fsync", full)
    result = cli("sample", tabular_bundle, "-o", tmp_path / "x.npy", "--steps", "2")
    assert result.exit_code == 1
    assert f"{tmp_path / 'x.npy'}: {os.strerror(errno.ENOSPC)}" in result.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]
    assert (tmp_path / "x.npy").read_bytes() == b"old"


def test_a_write_cut_short_names_the_file(tmp_path, monkeypatch):
    import numpy as np

    from revstep.commands.errors import describe
    from revstep.commands.pictures import save_array

    def short(*args, **kwargs):  # what numpy raises on a full disk: no errno, no name
        raise OSError("96 requested and 0 written")

    monkeypatch.setattr(np, "save", short)
    with pytest.raises(OSError, match="0 written") as caught:
        save_array(tmp_path / "x.npy", np.zeros(24, np.float32))
    assert describe(caught.value) == f"{tmp_path / 'x.npy'}: 96 requested and 0 written"
    assert list(tmp_path.iterdir()) == []


def test_running_out_of_memory_names_n(cli, tabular_bundle, tmp_path, monkeypatch):
    from revstep.engine.engine import Engine

    def full(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr(Engine, "sample", full)
    result = cli("sample", tabular_bundle, "-o", tmp_path / "x.npy", "-n", "7")
    assert result.exit_code == 1
    assert "out of memory: -n 7" in result.stderr
    assert "batch" not in result.stderr


def test_an_error_stands_alone_without_a_dead_progress_bar(cli, tabular_bundle, tmp_path):
    result = cli("sample", tabular_bundle, "-o", tmp_path / "x.npy", "--steps", "0")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Sample" not in result.stderr


def test_only_arguments_become_options_in_a_message():
    from revstep.commands.errors import describe
    from revstep.engine.message import Argument, Message
    from revstep.errors import ArgumentError

    def shown(*parts):
        return describe(ArgumentError(Message(*parts)))

    assert shown(Argument("batch_size", 65), " is too large") == "--batch-size 65 is too large"
    assert shown("or use ", Argument("precision", "fp32")) == "or use --precision fp32"
    assert shown("or use ", Argument("clip", True)) == "or use --clip"
    assert shown("pass ", Argument("conditions", {})) == "pass --class or --condition"
    seen = Argument("conditions", {"seen": [1.0, 2.0]})
    assert shown("pass ", seen) == "pass --condition seen=VALUE"
    assert shown(Argument("eta", 2.0), " is too large") == "eta=2.0 is too large"
    for text in ("runs/steps=5/x.npy is empty", "steps=5.npy is empty", "or use device='cpu'"):
        assert describe(ValueError(text)) == shown(text) == text


def test_a_failed_parity_check_is_no_mistake_of_the_caller(cli, copy_of, tabular_bundle):
    result = cli("compile", copy_of(tabular_bundle), "--forward-bound", "1e-30")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr


def test_the_unexpected_points_to_the_traceback(cli, tabular_bundle, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("the moon is full")

    monkeypatch.setattr("revstep.engine.bundle.reader.Bundle.open", broken)
    result = cli("info", tabular_bundle)
    assert result.exit_code == 1
    assert "RuntimeError: the moon is full" in result.stderr
    assert "--debug" in result.stderr


@pytest.mark.parametrize("way", ["option", "environment"])
def test_debug_shows_the_traceback(process, way):
    if way == "option":
        result = process("--debug", "info", "none.revstep")
    else:
        result = process("info", "none.revstep", REVSTEP_DEBUG="1")
    assert result.returncode == 1  # Python's own, for an uncaught exception
    assert "Traceback" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_quietly_with_130(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "def build():\n"
        "    pathlib.Path('started').touch()\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "revstep", "export", "slow:build", "-o", "x.revstep"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60.0
        while not (tmp_path / "started").exists():
            assert running.poll() is None, running.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        running.send_signal(signal.SIGINT)
        _, stderr = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "interrupted" in stderr
    assert "Traceback" not in stderr
    assert not (tmp_path / "x.revstep").exists()
