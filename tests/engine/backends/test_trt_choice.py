"""Which plan runs on a GPU, and which command makes one where none does."""

import json

import pytest

from revstep.engine.backends.trt.choice import GpuModel, find_plan, open_tensorrt, usable_plans
from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError
from revstep.engine.system.user_cache import cache_dir, read_cache, write_cache

L4 = GpuModel("NVIDIA L4", (8, 9))
A10 = GpuModel("NVIDIA A10", (8, 6))
H200 = GpuModel("NVIDIA H200", (9, 0))
RTX5090 = GpuModel("NVIDIA GeForce RTX 5090", (12, 0))
VERSIONS = {"tensorrt": "10.16.1.11", "tensorrt_rtx": "1.7.1.116"}


def entry(rows, target="tensorrt", device=str(L4), precision="fp16", version=None):
    least, tuned, most = rows if isinstance(rows, tuple) else (rows, rows, rows)
    return CompiledEntry(
        key=f"{target}-{device}-{least}-{tuned}-{most}",
        target=target,
        precision=precision,
        runtime=target,
        version=version or VERSIONS.get(target, "1"),
        device=device,
        batch=(least, most),
        file=None if target == "onnxruntime" else f"engines/{least}-{tuned}-{most}.plan",
        parity="not checked on this machine",
        tuned=tuned,
    )


def bundle(tmp_path, *entries):
    return Bundle(tmp_path / "x.revstep", None, {}, entries)


def test_static_comes_before_dynamic_and_the_nearest_tuning_wins(tmp_path):
    static, near, far = entry(8), entry((1, 6, 16)), entry((1, 16, 64))
    opened = bundle(tmp_path, far, near, static)
    found = [find_plan(opened, L4, n, precision="fp16", versions=VERSIONS) for n in (8, 5, 14, 20)]
    assert found == [static, near, far, far]


def test_tensorrt_comes_before_tensorrt_rtx(tmp_path):
    rtx = entry(8, "tensorrt_rtx", "sm_86,sm_89")
    both = bundle(tmp_path, rtx, entry(8))
    assert find_plan(both, L4, 8, precision="fp16", versions=VERSIONS) == entry(8)
    assert find_plan(both, A10, 8, precision="fp16", versions=VERSIONS) == rtx


def test_a_plan_of_tensorrt_is_for_one_model_of_gpu(tmp_path):
    opened = bundle(tmp_path, entry(8, device="NVIDIA RTX 6000 Ada Generation (sm_89)"))
    with pytest.raises(BackendError, match=r"are for NVIDIA RTX 6000 Ada.*this GPU is NVIDIA L4"):
        find_plan(opened, L4, 8, precision="fp16", versions=VERSIONS)


@pytest.mark.parametrize(
    ("entries", "gpu", "versions", "message", "target"),
    [
        ([], L4, VERSIONS, "has no TensorRT plan of fp16 for NVIDIA L4", "tensorrt"),
        ([entry(8, "onnxruntime", "cpu")], L4, VERSIONS, "no TensorRT plan", "tensorrt"),
        ([entry(8, precision="fp32")], L4, VERSIONS, r"of fp16 \(it has fp32\)", "tensorrt"),
        ([entry(8, "tensorrt_rtx", "sm_86")], L4, {"tensorrt_rtx": "1.7.1.116"},
         r"are for sm_86; this GPU is NVIDIA L4 \(sm_89\)", "tensorrt_rtx"),
        ([entry(8, "tensorrt_rtx", "sm_86")], H200, {"tensorrt_rtx": "1.7.1.116"},
         r"this GPU is NVIDIA H200 \(sm_90\)", "tensorrt"),  # RTX can't build for Hopper
        ([entry(8, version="10.0.1")], L4, VERSIONS,
         "built by tensorrt 10.0.1; installed is tensorrt 10.16", "tensorrt"),
        ([entry(8)], L4, {}, r"installed is no TensorRT.*pip install 'revstep\[tensorrt\]'",
         "tensorrt"),
        ([entry(1), entry((4, 6, 8))], L4, VERSIONS, r"for 12 rows; its plans .* take 1, 4 to 8",
         "tensorrt"),
    ],
)  # fmt: skip
def test_no_plan_names_what_there_is_and_the_command(
    tmp_path, entries, gpu, versions, message, target
):
    opened = bundle(tmp_path, *entries)
    with pytest.raises(BackendError, match=message) as caught:
        find_plan(opened, gpu, 12, precision="fp16", versions=versions)
    command = f"revstep compile {opened.path} --target {target} --precision fp16 --batch 12"
    assert command in str(caught.value)


def test_usable_plans_lists_every_batch(tmp_path):
    mine = [entry(1), entry(8), entry((1, 8, 64))]
    opened = bundle(tmp_path, *mine, entry(4, device=str(A10)), entry(2, precision="fp32"))
    assert usable_plans(opened, L4, precision="fp16", versions=VERSIONS) == mine


@pytest.mark.parametrize(
    ("made", "command"),
    [
        (entry(8), "--target tensorrt --precision fp16 --batch 8"),
        (entry((1, 8, 64)), "--target tensorrt --precision fp16 --dynamic 1:8:64"),
        (entry(8, "tensorrt_rtx", "sm_86,sm_89"),
         "--target tensorrt_rtx --precision fp16 --batch 8 --gpu sm_86,sm_89"),
    ],
)  # fmt: skip
def test_an_entry_knows_the_command_that_makes_it_anew(tmp_path, made, command):
    assert made.command(tmp_path) == f"revstep compile {tmp_path} {command}"
    assert json.loads(json.dumps(made.to_dict()))["tuned"] == made.tuned


def test_without_a_gpu_loading_says_so(tmp_path):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendError, match=r"TensorRT runs on CUDA.*device='cpu'"):
        open_tensorrt(bundle(tmp_path, entry(8)), precision="fp16")


def test_the_users_cache_keeps_bytes_and_never_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert read_cache("timing", "tensorrt 10 L4") is None
    write_cache("timing", "tensorrt 10 L4", b"one")
    write_cache("timing", "tensorrt 11 L4", b"two")
    assert read_cache("timing", "tensorrt 10 L4") == b"one"
    assert len(list((cache_dir() / "timing").iterdir())) == 2
    (tmp_path / "file").write_text("not a directory")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    write_cache("timing", "x", b"lost")
    assert read_cache("timing", "x") is None
