"""Compiling a bundle: parity is checked, and a failure leaves the bundle as it was."""

import dataclasses
import json
import os

import numpy as np
import onnxruntime as ort
import pytest
from damage import (
    change_weight,
    disk_full,
    edit_manifest,
    export_anew,
    flip,
    rehash,
    scale_one,
    snapshot,
)
from toys import build

from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BundleError, CompileError, ExportError, ParityError, RevstepError
from revstep.engine.spec.schedule import VPSchedule
from revstep.export import BuildOptions, compile_bundle, export_module
from revstep.export.targets.compile import TARGETS
from revstep.export.targets.jobs import compile_jobs, plan_jobs
from revstep.export.targets.target import Target


def poison_one(values):
    values.reshape(-1)[3] = np.nan


@pytest.mark.parametrize("kind", ["image", "policy", "tabular"])
def test_a_compiled_bundle_lists_its_figures(kind, request, copy_of):
    path = copy_of(request.getfixturevalue(f"{kind}_bundle"))
    others = {k: v for k, v in snapshot(path).items() if k != "manifest.json"}
    entry = compile_bundle(path, threads=1)
    bundle = Bundle.open(path)
    assert bundle.compiled == (entry,)
    assert (entry.target, entry.precision, entry.file) == ("onnxruntime", "fp32", None)
    assert (entry.runtime, entry.version) == ("onnxruntime", ort.__version__)
    assert entry.batch == bundle.spec.batch
    assert 0 <= entry.parity["forward"]["error"] < entry.parity["forward"]["bound"] == 1e-4
    assert 0 <= entry.parity["ddim20"]["error"] < entry.parity["ddim20"]["bound"] == 1e-3
    assert bundle.manifest["parity"]["figures"]["onnxruntime.fp32"] == entry.parity
    assert {k: v for k, v in snapshot(path).items() if k != "manifest.json"} == others


def test_the_demo_compiles_in_both_precisions(demo_bundle, copy_of):
    path = copy_of(demo_bundle)
    fp32 = compile_bundle(path, threads=1)
    fp16 = compile_bundle(path, precision="fp16", threads=1)
    assert fp16.parity["forward"]["error"] > 10 * fp32.parity["forward"]["error"]
    assert fp16.parity["forward"]["bound"] == 1e-2
    assert fp16.key != fp32.key
    assert Bundle.open(path).compiled == (fp32, fp16)


def test_a_second_compile_replaces_the_entry(tabular_bundle, copy_of):
    path = copy_of(tabular_bundle)
    first = compile_bundle(path)
    again = compile_bundle(path, bounds={"forward": 1e-3})
    assert again.key == first.key
    assert Bundle.open(path).compiled == (again,)
    assert again.parity["forward"]["bound"] == 1e-3
    assert again.parity["ddim20"]["bound"] == 1e-3


@pytest.mark.parametrize("kind", ["image", "policy", "tabular"])
@pytest.mark.parametrize(("change", "message"), [(scale_one, "differs from the reference by"),
                                                 (poison_one, "NaN or infinity")])  # fmt: skip
def test_one_changed_weight_fails_closed(kind, change, message, request, copy_of):
    path = copy_of(request.getfixturevalue(f"{kind}_bundle"))
    change_weight(path, change)
    before = snapshot(path)
    with pytest.raises(ParityError, match=f"{message}.*bundle is unchanged"):
        compile_bundle(path, threads=1)
    assert snapshot(path) == before
    assert Bundle.open(path).compiled == ()


def test_one_changed_weight_of_the_demo_fails_closed(demo_bundle, copy_of):
    path = copy_of(demo_bundle)
    change_weight(path, scale_one, size=10_000)
    before = snapshot(path)
    with pytest.raises(ParityError, match="differs from the reference"):
        compile_bundle(path, threads=1)
    assert snapshot(path) == before


@pytest.mark.parametrize(("change", "message"), [(scale_one, "the decoder differs"),
                                                 (poison_one, "the decoder gave NaN")])  # fmt: skip
def test_one_changed_weight_of_the_decoder_fails_closed(image_bundle, copy_of, change, message):
    path = copy_of(image_bundle)
    assert compile_bundle(path, threads=1).parity["decoder"]["error"] < 1e-5
    change_weight(path, change, name="decoder.onnx")
    before = snapshot(path)
    with pytest.raises(ParityError, match=message):
        compile_bundle(path, threads=1)
    assert snapshot(path) == before


def test_a_failed_compile_keeps_the_entry_of_an_earlier_one(image_bundle, copy_of):
    path = copy_of(image_bundle)
    entry = compile_bundle(path, threads=1)
    change_weight(path, scale_one, name="denoiser.fp16.onnx")
    before = snapshot(path)
    with pytest.raises(ParityError, match="differs"):
        compile_bundle(path, precision="fp16", bounds={"forward": 1e-2}, threads=1)
    assert snapshot(path) == before
    assert Bundle.open(path).compiled == (entry,)


def test_bounds_decide(image_bundle, copy_of):
    path = copy_of(image_bundle)
    with pytest.raises(ParityError, match=r"one forward pass .* the bound is 1e-07"):
        compile_bundle(path, precision="fp16", bounds={"forward": 1e-7})
    with pytest.raises(ParityError, match=r"DDIM-20 run .* the bound is 1e-09"):
        compile_bundle(path, precision="fp16", bounds={"ddim20": 1e-9})
    change_weight(path, scale_one)
    entry = compile_bundle(path, bounds={"forward": 10.0, "ddim20": 10.0})
    assert entry.parity["forward"]["error"] > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "openvino"}, "unknown target 'openvino'; allowed: onnxruntime"),
        ({"precision": "int8"}, "unknown precision 'int8'; allowed: fp32, fp16, bf16"),
        ({"bounds": {"forwards": 1.0}}, "unknown parity bound forwards; did you mean 'forward'"),
        ({"bounds": {"forward": 0.0}}, "must be positive"),
        ({"bounds": {"forward": float("nan")}}, "must be positive"),
        ({"threads": 0}, "threads"),
        ({"batch": 4}, "batch is for the targets cpu, tensorrt and tensorrt_rtx, not for onnx"),
        ({"target": "tensorrt", "threads": 2}, "threads is for the targets onnxruntime and cpu,"),
        ({"target": "kernels"}, "unknown target 'kernels'; allowed: onnxruntime"),
    ],
)
def test_a_wrong_argument_names_what_is_allowed(tabular_bundle, copy_of, options, message):
    path = copy_of(tabular_bundle)
    before = snapshot(path)
    with pytest.raises(ValueError, match=message):
        compile_bundle(path, **options)
    assert snapshot(path) == before


def test_another_target_is_one_entry_of_the_table(tabular_bundle, monkeypatch):
    given = []

    def compile_(arguments):
        given.append((arguments.precision, arguments.threads, arguments.options.memory_limit))
        return Bundle.open(arguments.path)

    abacus = Target("abacus", ("precision", "memory_limit"), compile_)
    monkeypatch.setitem(TARGETS, abacus.name, abacus)
    jobs = plan_jobs(["abacus"], ["fp32", "fp16"])
    compile_jobs(tabular_bundle, jobs, options=BuildOptions(memory_limit=9))
    assert given == [("fp32", None, 9), ("fp16", None, 9)]
    with pytest.raises(ValueError, match="threads is for the targets onnxruntime and cpu, not"):
        compile_jobs(tabular_bundle, jobs, threads=2)
    with pytest.raises(ValueError, match=r"allowed: onnxruntime, cpu, tensorrt, .*, abacus$"):
        compile_bundle(tabular_bundle, target="kernels")
    assert len(given) == 2


@pytest.mark.parametrize(
    ("asked", "compiled"),
    [
        (["fp32", "auto"], ["auto"]),  # which measures fp32
        (["auto", "fp32"], ["auto"]),
        (["auto", "bf16"], ["auto", "bf16"]),
        (["bf16", "fp32"], ["fp32", "bf16"]),  # whose entries stay beside fp32's, not before them
        (["bf16", "auto", "fp32"], ["auto", "bf16"]),
        (["bf16", "bf16"], ["bf16"]),
    ],
)
def test_a_cpu_is_measured_once_for_each_precision(asked, compiled):
    assert [job.precision for job in plan_jobs(["cpu"], asked)] == compiled


def test_other_targets_compile_the_precisions_as_they_are_asked_for():
    assert [job.precision for job in plan_jobs(["onnxruntime"], ["fp16", "fp32"])] == [
        "fp16",
        "fp32",
    ]


def test_a_precision_without_graph_names_the_export_command(tabular_bundle, copy_of):
    with pytest.raises(BundleError, match=r"no fp16 graph.*--precision fp32,fp16"):
        compile_bundle(copy_of(tabular_bundle), precision="fp16")


def test_bf16_says_that_onnx_runtime_cannot(tabular_bundle, copy_of):
    path = copy_of(tabular_bundle)
    (path / "denoiser.bf16.onnx").write_bytes((path / "denoiser.fp32.onnx").read_bytes())
    rehash(path, "denoiser.bf16.onnx")
    edit_manifest(path, lambda m: m["graphs"].update(bf16="denoiser.bf16.onnx"))
    with pytest.raises(CompileError, match="no bf16 operators"):
        compile_bundle(path, precision="bf16")


def test_a_damaged_bundle_is_not_compiled(tabular_bundle, copy_of):
    path = copy_of(tabular_bundle)
    flip(path / "denoiser.fp32.onnx", 2000)
    with pytest.raises(BundleError, match="sha256"):
        compile_bundle(path)


@pytest.mark.parametrize("data", [b"", b"\x00\xff\xfe not onnx"])
def test_a_graph_that_is_no_onnx_is_refused(tabular_bundle, copy_of, data):
    path = copy_of(tabular_bundle)
    (path / "denoiser.fp32.onnx").write_bytes(data)
    rehash(path, "denoiser.fp32.onnx")
    before = snapshot(path)
    with pytest.raises(RevstepError, match=r"denoiser\.fp32\.onnx"):
        compile_bundle(path)
    assert snapshot(path) == before


def test_a_full_disk_leaves_the_bundle(tabular_bundle, copy_of, monkeypatch):
    path = copy_of(tabular_bundle)
    before = snapshot(path)
    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(CompileError, match=r"No space left.*unchanged"):
        compile_bundle(path)
    assert snapshot(path) == before


def test_a_bundle_exported_anew_meanwhile_is_not_marked(tabular_bundle, copy_of):
    path = copy_of(tabular_bundle)

    def meanwhile(description, done, total):
        if description == "writing the manifest":
            export_anew(path)

    with pytest.raises(CompileError, match="exported anew"):
        compile_bundle(path, progress=meanwhile)
    assert json.loads((path / "manifest.json").read_text())["engines"] == []


def test_progress_counts_to_the_end(policy_bundle, copy_of):
    calls = []
    compile_bundle(copy_of(policy_bundle), progress=lambda *args: calls.append(args))
    done = [d for _, d, _ in calls]
    assert done == sorted(done)
    assert done[0] == 0
    assert calls[-1][1] == calls[-1][2]
    assert len(calls) > 20


def test_a_narrow_batch_range_is_respected(tmp_path):
    module, spec, _ = build("policy")
    spec = dataclasses.replace(spec, batch=(2, 3))
    path = tmp_path / "x.revstep"
    export_module(module, spec, path)
    assert compile_bundle(path).batch == (2, 3)


def test_a_network_that_cannot_run_ddim_is_refused_at_export(tmp_path):
    module, spec, decoder = build("image")
    spec = dataclasses.replace(spec, schedule=VPSchedule(zero_terminal_snr=True))
    with pytest.raises(ExportError, match=r"no DDIM run.*zero terminal SNR"):
        export_module(module, spec, tmp_path / "x.revstep", decoder=decoder)
