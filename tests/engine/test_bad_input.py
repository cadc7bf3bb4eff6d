"""What goes wrong on GPUs, from ``load`` on: named, with what mends it, the engine usable after.

TensorRT is a stand-in and the GPU is the CPU; the choice of plans, the runner, its buckets and its
errors are those of a GPU.
"""

import hashlib
import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from damage import flip  # noqa: E402
from fake_trt import Faults, fake_trt, plan  # noqa: E402

import revstep  # noqa: E402
from revstep.engine.backends.trt import choice as plans  # noqa: E402
from revstep.engine.backends.trt import denoiser as trt_denoiser  # noqa: E402
from revstep.engine.backends.trt.library import TrtLibrary  # noqa: E402
from revstep.engine.bundle import kernels as kernel_files  # noqa: E402
from revstep.engine.bundle.entry import CompiledEntry  # noqa: E402
from revstep.engine.bundle.reader import Bundle  # noqa: E402
from revstep.engine.bundle.record import record  # noqa: E402
from revstep.engine.errors import (  # noqa: E402
    BackendError,
    BundleError,
    DeviceMemoryError,
    NonFiniteError,
)
from revstep.engine.open import bundle as loading  # noqa: E402
from revstep.engine.runtime import runtime as runtime_file  # noqa: E402
from suites.torch_host import torch_host_runtime  # noqa: E402

L4 = plans.GpuModel("NVIDIA L4", (8, 9))
RUN = {"steps": 4, "seed": 3}


@pytest.fixture
def faults():
    return Faults()


@pytest.fixture
def here(monkeypatch, faults):
    """A machine with an NVIDIA L4 and TensorRT 10.16: its fake, on CPU tensors."""
    library = TrtLibrary("tensorrt", fake_trt(faults), "10.16", rtx=False)
    machine = {"gpu": L4, "versions": {"tensorrt": "10.16"}}
    device = torch.device("cpu")

    def runtime(denoiser, *, kernels, kernels_folder, **options):
        return torch_host_runtime(denoiser, **options)

    monkeypatch.setattr(loading, "driver_gpus", lambda: 1)
    monkeypatch.setattr(loading, "cuda_device", lambda name: device)
    monkeypatch.setattr(kernel_files, "choose_kernels", lambda bundle, wanted: None)
    monkeypatch.setattr(runtime_file, "cuda_runtime", runtime)
    monkeypatch.setattr(plans.GpuModel, "current", lambda device="cuda": machine["gpu"])
    monkeypatch.setattr(plans, "installed_versions", lambda: machine["versions"])
    monkeypatch.setattr(trt_denoiser, "trt_library", lambda name: library)
    return machine


@pytest.fixture
def bundle(policy_bundle, copy_of):
    """The policy's bundle with static engines for 1 and 4 rows on an L4."""
    path = copy_of(policy_bundle)
    for rows in (1, 4):
        opened = Bundle.open(path)
        data = plan(opened.spec, rows, rows, rows)
        key = hashlib.sha256(data).hexdigest()[:32]
        entry = CompiledEntry(
            key=key, target="tensorrt", precision="fp32", runtime="tensorrt", version="10.16",
            device=str(L4), batch=(rows, rows), file=f"engines/{key}.plan",
            parity="not checked on this machine", tuned=rows,
        )  # fmt: skip
        record(opened, entry, data)
    return path


def load(path, **options):
    return revstep.load(path, backend="tensorrt", **options)


def command(path, rows):
    return f"revstep compile {path} --target tensorrt --precision fp32 --batch {rows}"


def test_the_stand_in_samples(bundle, here):
    engine = load(bundle)
    told = engine.describe()
    assert (told["backend"], told["library"], told["buckets"]) == ("tensorrt", "tensorrt", [1, 4])
    assert np.isfinite(engine.sample(6, **RUN).x).all()


def test_no_driver(bundle, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(loading, "driver_gpus", lambda: 0)
    with pytest.raises(BackendError, match="device='cpu'"):
        load(bundle)
    assert revstep.load(bundle).describe()["device"] == "cpu"


def test_an_engine_for_another_gpu(bundle, here, monkeypatch, caplog):
    def no_provider(*args):
        raise BackendError("onnxruntime has no CUDA provider; pip install 'revstep[cuda]'")

    monkeypatch.setattr("revstep.engine.backends.onnx_cuda.OrtCudaDenoiser", no_provider)
    here["gpu"] = plans.GpuModel("NVIDIA H200", (9, 0))
    with pytest.raises(BackendError) as caught:
        load(bundle)
    assert "are for NVIDIA L4 (sm_89); this GPU is NVIDIA H200 (sm_90)" in str(caught.value)
    assert command(bundle, 1) in str(caught.value)
    with caplog.at_level(logging.WARNING, "revstep"):
        engine = revstep.load(bundle)
    assert f"tensorrt is passed over on CUDA: {bundle}: its TensorRT plans" in caplog.text
    assert "onnxruntime is passed over on CUDA: onnxruntime has no CUDA provider" in caplog.text
    assert engine.describe()["device"] == "cpu"


def test_another_tensorrt_version(bundle, here):
    here["versions"] = {"tensorrt": "11.4"}
    with pytest.raises(BackendError) as caught:
        load(bundle)
    assert "were built by tensorrt 10.16; installed is tensorrt 11.4" in str(caught.value)
    assert command(bundle, 1) in str(caught.value)


def test_no_tensorrt_at_all(bundle, here):
    here["versions"] = {}
    with pytest.raises(
        BackendError, match=r"no TensorRT at all.*pip install 'revstep\[tensorrt\]'"
    ):
        load(bundle)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_plan(bundle, here, damage, verify):
    entry = Bundle.open(bundle).compiled[1]
    file = bundle / entry.file
    whole = file.read_bytes()
    if damage == "flipped":
        flip(file, len(whole) // 2)
    else:
        file.write_bytes(whole[:-5])
    with pytest.raises((BundleError, BackendError)) as caught:
        load(bundle, verify=verify)
    assert entry.file.removeprefix("engines/") in str(caught.value)
    assert command(bundle, 4) in str(caught.value)
    file.write_bytes(whole)
    assert load(bundle, verify=verify).sample(4, **RUN).x.shape == (4, 8, 2)


def test_a_batch_outside_the_profiles(bundle, here):
    with pytest.raises(BackendError) as caught:
        load(bundle, buckets=(1, 8))
    assert "for 8 rows; its plans for NVIDIA L4 (sm_89) take 1, 4" in str(caught.value)
    assert command(bundle, 8) in str(caught.value)
    engine = load(bundle)
    want = engine.sample(9, **RUN).x  # more than the largest engine: in several calls
    with pytest.raises(ValueError, match=r"takes 1 to 4 network rows|1 to 4"):
        engine.sample(9, batch_size=9, **RUN)
    np.testing.assert_array_equal(engine.sample(9, **RUN).x, want)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("create_execution_context", "Error Code 2: OutOfMemory (Requested size was 9 bytes.)"),
        ("execute_async_v3", "Error Code 1: Cuda Runtime (out of memory)"),
    ],
)
def test_out_of_gpu_memory(bundle, here, faults, call, says):
    engine = load(bundle, cuda=revstep.CudaOptions(warm_up=False, graphs=False))
    faults.call, faults.says = call, says
    with pytest.raises(DeviceMemoryError, match=r"memory is too small.*use a smaller batch"):
        engine.sample(4, **RUN)
    faults.call = ""
    want = load(bundle).sample(4, **RUN).x
    np.testing.assert_array_equal(engine.sample(4, **RUN).x, want)


def test_torch_out_of_memory_names_the_option(bundle, here, monkeypatch):
    engine = load(bundle, cuda=revstep.CudaOptions(graphs=False))
    want = engine.sample(4, **RUN).x

    def full(self, array):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as patch:
        patch.setattr("suites.torch_host.TorchHost.upload", full)
        with pytest.raises(DeviceMemoryError, match=r"smaller batch_size, or .* lower precision"):
            engine.sample(4, **RUN)
    np.testing.assert_array_equal(engine.sample(4, **RUN).x, want)


@pytest.mark.parametrize(
    ("precision", "advice"), [("fp16", "precision='bf16' or 'fp32'"), ("fp32", "conditions' range")]
)
def test_nan_of_the_network(bundle, here, faults, precision, advice):
    engine = load(bundle, cuda=revstep.CudaOptions(graphs=False))
    if precision == "fp16":  # what load says of the fp16 graph's engines
        engine = revstep.Engine(
            engine._runtime, details={"precision": "fp16", "bundle": str(bundle)}
        )
    faults.call = "nan"
    with pytest.raises(NonFiniteError, match=rf"step 1 of 4, for sample 0, 1.*{advice}"):
        engine.sample(2, **RUN)
    faults.call = ""
    np.testing.assert_array_equal(engine.sample(2, **RUN).x, load(bundle).sample(2, **RUN).x)


def test_memory_that_is_short_while_loading(bundle, here, faults):
    faults.call, faults.says = "deserialize_cuda_engine", "Error Code 2: OutOfMemory"
    with pytest.raises(DeviceMemoryError, match="memory is too small"):
        load(bundle)
    faults.call = ""
    load(bundle)
