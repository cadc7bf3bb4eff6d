"""TensorRT plans: built for real by TensorRT-RTX, which needs no GPU for that."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from damage import disk_full, edit_manifest, export_anew, flip, rehash, snapshot

from revstep.engine.backends.trt.choice import GpuModel, find_plan, plan_file
from revstep.engine.backends.trt.denoiser import TrtDenoiser
from revstep.engine.backends.trt.library import trt_library
from revstep.engine.backends.trt.plan import PlanFile
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError, BundleError, Cancelled, CompileError
from revstep.export import compile_bundle
from revstep.export.targets import jobs as jobs_module
from revstep.export.targets.jobs import CompileJob, compile_jobs, plan_jobs
from revstep.export.targets.options import BuildOptions, Profile
from revstep.export.targets.trt_build import gpu_targets

trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx", exc_type=ImportError)

pytestmark = pytest.mark.tensorrt

RTX = "tensorrt_rtx"
ADA = BuildOptions(gpus=("sm_89",))
L4 = GpuModel("NVIDIA L4", (8, 9))


def compiled(path, batch=4, **options):
    options = {"options": ADA, **options}
    return compile_bundle(path, target=RTX, batch=batch, **options)


def loaded(path, entry):
    """What loading an entry's plan raises here."""
    bundle = Bundle.open(path)
    with pytest.raises(BackendError) as caught:
        TrtDenoiser.load([plan_file(bundle, entry)], bundle.spec, module=RTX)
    return str(caught.value)


@pytest.fixture(scope="module")
def built(policy_bundle, tmp_path_factory):
    """The policy's bundle with a static and a dynamic plan, and the entries."""
    path = tmp_path_factory.mktemp("built") / "policy.revstep"
    shutil.copytree(policy_bundle, path)
    return path, (compiled(path), compiled(path, Profile(1, 4, 16)))


def test_plans_are_in_the_bundle_listed_and_hashed(built):
    path, entries = built
    bundle = Bundle.open(path)
    assert bundle.compiled == entries
    for entry, rows, tuned in zip(entries, [(4, 4), (1, 16)], [4, 4], strict=True):
        assert (entry.target, entry.runtime, entry.version) == (RTX, RTX, trt.__version__)
        assert (entry.device, entry.batch, entry.tuned) == ("sm_89", rows, tuned)
        assert entry.parity == "not checked on this machine"
        assert entry.file == f"engines/{entry.key}.plan"
        assert bundle.manifest["files"][entry.file]["bytes"] > 10_000
    assert len({entry.key for entry in entries}) == 2
    assert sorted(p.name for p in (path / "engines").iterdir()) == sorted(
        f"{entry.key}.plan" for entry in entries
    )


def test_the_plans_are_what_tensorrt_calls_an_engine(built):
    path, entries = built
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    malformed = int(trt.EngineInvalidityDiagnostics.MALFORMED_ENGINE.value)
    for entry in entries:
        header = (path / entry.file).read_bytes()[: runtime.engine_header_size]
        _, diagnostics = runtime.get_engine_validity(header)
        assert not diagnostics & malformed


def test_loading_finds_the_plan_of_the_gpu_and_batch(built):
    path, (static, dynamic) = built
    bundle = Bundle.open(path)
    assert find_plan(bundle, L4, 4) == static
    assert find_plan(bundle, L4, 16) == dynamic
    with pytest.raises(BackendError, match=rf"revstep compile {path} --target tensorrt"):
        find_plan(bundle, GpuModel("NVIDIA H200", (9, 0)), 4)


def test_without_a_driver_loading_says_so_and_names_the_cpu(built):
    if torch.cuda.is_available():
        pytest.skip("this machine has a driver")
    path, (static, _) = built
    assert "no NVIDIA driver" in loaded(path, static)
    assert "device='cpu'" in loaded(path, static)


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "flipped", "missing"])
def test_a_damaged_plan_is_refused_with_the_command_that_fixes_it(built, copy_of, damage):
    path, whole = copy_of(built[0]), Bundle.open(built[0])
    entry = built[1][0]
    plan = path / entry.file
    data = plan.read_bytes()
    if damage == "flipped":
        flip(plan, len(data) // 2)
    elif damage == "missing":
        plan.unlink()
    else:
        cut = {"cut": data[:-64], "garbage": b"\x00\xff" * 500, "empty": b""}
        plan.write_bytes(cut[damage])
    command = f"revstep compile {path} --target {RTX} --precision fp32 --batch 4 --gpu sm_89"
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert str(plan) in str(caught.value)
    assert command in str(caught.value)
    sha256 = whole.manifest["files"][entry.file]["sha256"]
    with pytest.raises(BackendError) as caught:  # a bundle opened without verifying
        TrtDenoiser.load([PlanFile(plan, command, sha256)], whole.spec, module=RTX)
    assert command in str(caught.value)
    again = compiled(path)  # the command does fix it
    assert again == entry
    assert Bundle.open(path).compiled == (built[1][1], entry)


def test_what_is_no_plan_is_named_by_tensorrt_itself(built, tmp_path):
    file = tmp_path / "x.plan"
    spec = Bundle.open(built[0]).spec
    for data in (b"", b"\x00\xff not a plan", os.urandom(5000)):
        file.write_bytes(data)
        with pytest.raises(BackendError, match=r"cut short or damaged; run: fix it"):
            TrtDenoiser.load([PlanFile(file, "fix it")], spec, module=RTX)


def test_a_second_compile_builds_nothing(built, copy_of):
    path = copy_of(built[0])
    before = snapshot(path)
    calls = []
    assert compiled(path, progress=lambda *args: calls.append(args)) == built[1][0]
    assert snapshot(path) == before
    assert len(calls) == 1


def test_other_options_replace_the_plan_and_its_file(built, copy_of):
    path = copy_of(built[0])
    quick = BuildOptions(gpus=("sm_89",), memory_limit=2**28, optimization_level=0)
    entry = compiled(path, options=quick)
    static, dynamic = built[1]
    assert entry.key != static.key
    assert Bundle.open(path).compiled == (dynamic, entry)
    assert not (path / static.file).exists()


def test_a_memory_limit_that_is_too_small_names_the_option(built, copy_of):
    path = copy_of(built[0])
    before = snapshot(path)
    with pytest.raises(CompileError, match="give a larger --memory-limit, or none"):
        compiled(path, batch=2, options=BuildOptions(memory_limit=1))
    assert snapshot(path) == before


def test_a_leftover_of_a_killed_compile_is_removed(built, copy_of):
    path = copy_of(built[0])
    for name in ("dead.plan", ".dead.plan.partial"):
        (path / "engines" / name).write_bytes(b"half")
    (path / "engines" / "notes.txt").write_text("mine")
    Bundle.open(path)
    compiled(path, batch=2)
    names = {p.name for p in (path / "engines").iterdir()}
    assert not names & {"dead.plan", ".dead.plan.partial"}
    assert "notes.txt" in names


def test_a_full_disk_leaves_the_bundle(built, copy_of, monkeypatch):
    path = copy_of(built[0])
    before = snapshot(path)
    monkeypatch.setattr(os, "replace", disk_full)
    with pytest.raises(CompileError, match=r"No space left.*unchanged"):
        compiled(path, batch=2)
    assert snapshot(path) == before


def test_a_bundle_exported_anew_meanwhile_is_not_marked(built, copy_of):
    path = copy_of(built[0])

    def meanwhile(description, done, total):
        if not meanwhile.done:
            meanwhile.done = True
            export_anew(path)

    meanwhile.done = False
    with pytest.raises(CompileError, match="exported anew"):
        compiled(path, batch=2, progress=meanwhile)
    assert len(json.loads((path / "manifest.json").read_text())["engines"]) == 2


def test_progress_rises_and_a_build_can_be_cancelled(built, copy_of):
    path = copy_of(built[0])
    before = snapshot(path)
    polled, calls = [], []

    def cancelled():
        polled.append(True)
        return len(polled) > 20

    with pytest.raises(Cancelled, match="cancelled"):
        compiled(path, 2, cancelled=cancelled, progress=lambda *args: calls.append(args))
    assert snapshot(path) == before
    done = [d for _, d, _ in calls]
    assert done == sorted(done)
    assert len(done) > 3
    calls.clear()
    compiled(path, 2, progress=lambda *args: calls.append(args))
    assert [d for _, d, _ in calls] == sorted(d for _, d, _ in calls)
    assert calls[-1][1:] == (1000, 1000)


def test_an_error_in_the_progress_callback_comes_out(built, copy_of):
    def broken(description, done, total):
        raise LookupError("no terminal")

    with pytest.raises(LookupError, match="no terminal"):
        compiled(copy_of(built[0]), 2, progress=broken)


@pytest.mark.parametrize("data", [b"\x00\xff\xfe not onnx", b"", None])
def test_what_is_no_onnx_or_a_cut_one_is_refused(built, copy_of, data):
    path = copy_of(built[0])
    graph = path / "denoiser.fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-200] if data is None else data)
    rehash(path, graph.name)
    with pytest.raises(CompileError, match=r"denoiser\.fp32\.onnx"):
        compiled(path, 2)


def test_a_graph_of_another_spec_is_refused(built, copy_of):
    path = copy_of(built[0])
    edit_manifest(path, lambda m: m["spec"]["conditions"][0].update(shape=[5]))
    with pytest.raises(CompileError, match=r"'observation' is \(-1, 4\); the spec says"):
        compiled(path, 2)


def test_the_gpus_that_can_be_built_for():
    library = trt_library(RTX)
    assert gpu_targets(library, ["SM_89", "sm89", "sm_120"]) == ("sm_89", "sm_120")
    every = gpu_targets(library)
    assert {"sm_86", "sm_89", "sm_120"} <= set(every)
    assert "sm_90" not in every
    for gpu in ("sm_90", "sm_100", "sm_70"):
        with pytest.raises(CompileError, match=rf"can't build for {gpu}: .*--target tensorrt"):
            gpu_targets(library, [gpu])
    with pytest.raises(ValueError, match="written sm_<compute capability>"):
        gpu_targets(library, ["H200"])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (17, "batch 17 is outside the 1 to 16 rows"),
        (Profile(1, 4, 64), "batch 1:4:64 is outside"),
        (0, "1 <= min"),
    ],
)
def test_a_batch_outside_the_spec_is_refused(built, batch, message):
    with pytest.raises(ValueError, match=message):
        compiled(built[0], batch)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_tensorrt_itself_is_refused_without_a_gpu(built):
    """Before its package, of some gigabytes, is polled for."""
    with pytest.raises(CompileError, match="no NVIDIA GPU here; compile on that machine"):
        compile_bundle(built[0], target="tensorrt", batch=1)


def test_jobs_are_every_target_precision_and_batch():
    jobs = plan_jobs([RTX, "onnxruntime"], ["fp32", "fp16"], [1, 8], Profile(1, 8, 64))
    assert [str(job) for job in jobs] == [
        f"{RTX}, fp32, batch 1", f"{RTX}, fp32, batch 8", f"{RTX}, fp32, batch 1:8:64",
        f"{RTX}, fp16, batch 1", f"{RTX}, fp16, batch 8", f"{RTX}, fp16, batch 1:8:64",
        "onnxruntime, fp32", "onnxruntime, fp16",
    ]  # fmt: skip
    assert [str(job) for job in plan_jobs(["kernels"], ["fp32", "fp16"])] == ["kernels"]
    with pytest.raises(ValueError, match="unknown target 'abacus'; allowed: onnxruntime, cpu, "):
        plan_jobs(["abacus"], ["fp32"])


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda: Profile(1, 2.5, 4), TypeError, r"batch must be a whole number; got float 2\.5"),
        (lambda: Profile(1, True, 4), TypeError, "batch must be a whole number; got bool"),
        (lambda: BuildOptions(memory_limit=0), ValueError, "memory_limit=0 .*1 or more bytes"),
        (lambda: BuildOptions(optimization_level=6), ValueError, "optimization_level=6 .*0 to 5"),
    ],
)
def test_wrong_options_say_what_is_allowed(wrong, error, message):
    with pytest.raises(error, match=message):
        wrong()


def test_a_profiles_old_names_still_work_for_now():
    for old, new in (("least", 1), ("tuned", 4), ("most", 16)):
        with pytest.warns(DeprecationWarning, match=f"^{old} is now "):
            assert getattr(Profile(1, 4, 16), old) == new
    with pytest.warns(DeprecationWarning, match="is now"):
        assert Profile(least=1, tuned=4, most=16) == Profile(1, 4, 16)


def test_keep_going_compiles_the_rest_and_keeps_the_error(built, copy_of):
    path = copy_of(built[0])
    jobs = [CompileJob(RTX, "fp32", Profile(3, 3, 3)), CompileJob(RTX, "fp16"),
            CompileJob("onnxruntime", "fp32")]  # fmt: skip
    with pytest.raises(BundleError, match="no fp16 graph"):
        compile_jobs(path, jobs, options=ADA, threads=1)
    outcomes = compile_jobs(path, jobs, options=ADA, threads=1, keep_going=True)
    assert [type(o.error) for o in outcomes] == [type(None), BundleError, type(None)]
    assert Bundle.open(path).compiled[-2:] == (outcomes[0].made, outcomes[2].made)


def test_keep_going_outlives_the_machines_failures_too(monkeypatch):
    def full(target, arguments):
        if target == RTX:
            raise OSError(28, "No space left on device")
        return target

    monkeypatch.setattr(jobs_module, "compile_target", full)
    jobs = plan_jobs([RTX, "onnxruntime"], ["fp32"])
    outcomes = compile_jobs("a bundle", jobs, keep_going=True)
    assert isinstance(outcomes[0].error, OSError)
    assert outcomes[1].made == "onnxruntime"
    with pytest.raises(OSError, match="No space"):
        compile_jobs("a bundle", jobs)


def test_gpus_are_for_tensorrt_rtx_and_kernels_where_others_are_compiled_too(monkeypatch):
    given = []
    monkeypatch.setattr(
        jobs_module, "compile_target",
        lambda target, arguments: given.append((target, arguments.options.gpus)),
    )  # fmt: skip
    jobs = plan_jobs(["kernels", "tensorrt", RTX, "onnxruntime"], ["fp32"])
    compile_jobs("a bundle", jobs, options=ADA)
    assert given == [
        ("kernels", ("sm_89",)), ("tensorrt", ()), (RTX, ("sm_89",)), ("onnxruntime", ()),
    ]  # fmt: skip
    given.clear()
    with pytest.raises(ValueError, match="gpus is for the targets tensorrt_rtx and kernels, not"):
        compile_jobs("a bundle", plan_jobs(["tensorrt"], ["fp32"]), options=ADA)
    assert given == []


def test_ctrl_c_stops_a_build_and_leaves_the_bundle(built, copy_of):
    path = copy_of(built[0])
    before = snapshot(path)
    script = (
        "import sys, time; from revstep.export import compile_bundle\n"
        "def report(*args): print('building', flush=True); time.sleep(0.1)\n"
        "compile_bundle(sys.argv[1], target='tensorrt_rtx', batch=2, progress=report)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "building\n"
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert time.monotonic() - start < 30
    assert snapshot(path) == before


def test_garbage_collected_inside_tensorrts_log_does_not_hang(built, copy_of):
    script = (
        "import gc, sys\n"
        "from revstep.engine.backends.trt.library import LogLines, trt_library\n"
        "from revstep.export import BuildOptions, compile_bundle\n"
        "library = trt_library('tensorrt_rtx')\n"
        "LogLines.add = lambda *args: gc.collect()\n"
        "gc.disable()\n"
        "for _ in range(5):\n"
        "    cycle = [library.trt.Runtime(library.logger)]\n"
        "    cycle.append(cycle)\n"
        "keep = library.trt.Runtime(library.logger)\n"
        "options = BuildOptions(gpus=('sm_89',))\n"
        "compile_bundle(sys.argv[1], target='tensorrt_rtx', batch=2, options=options)\n"
        "print('alive')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(copy_of(built[0]))],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stdout == "alive\n", done.stderr
