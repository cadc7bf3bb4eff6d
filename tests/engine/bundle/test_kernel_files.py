"""Which kernels run the step on a GPU: Triton's, the bundle's, or an error that names both."""

import contextlib
import logging
import shutil
import subprocess
import sys
import sysconfig
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("triton", reason="Triton is not installed")

from damage import flip, rehash  # noqa: E402
from fake_cuda_core import FakeCore  # noqa: E402

import revstep  # noqa: E402
from revstep.engine.backends.onnx_cpu import OrtDenoiser  # noqa: E402
from revstep.engine.backends.protocol import NetworkBuffers  # noqa: E402
from revstep.engine.bundle import kernels as kernel_files  # noqa: E402
from revstep.engine.bundle.kernels import KernelFiles, choose_kernels  # noqa: E402
from revstep.engine.bundle.reader import Bundle  # noqa: E402
from revstep.engine.devices.gpu_kernels import GpuKernels  # noqa: E402
from revstep.engine.open import bundle as loading  # noqa: E402
from revstep.engine.runtime import runtime as runtime_file  # noqa: E402
from revstep.engine.runtime.slots import Slots  # noqa: E402
from revstep.errors import BackendError, BundleError  # noqa: E402
from revstep.kernels import normal_fill  # noqa: E402
from revstep.kernels.gpu import cubin  # noqa: E402
from revstep.kernels.noise import STREAM_INITIAL  # noqa: E402
from suites.torch_host import TorchHost  # noqa: E402


@pytest.fixture
def machine(monkeypatch):
    """What is installed: Triton, a C compiler and cuda.core, until a test takes them away."""
    here = types.SimpleNamespace(triton=True, compiler=True, headers=True)
    real = kernel_files.importlib.util.find_spec

    def find_spec(name):
        return (object() if here.triton else None) if name == "triton" else real(name)

    monkeypatch.setattr(kernel_files.importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(shutil, "which", lambda name: name if here.compiler else None)
    paths = sysconfig.get_paths()

    def get_paths(scheme):
        return paths if here.headers else {**paths, "include": "/nowhere"}

    monkeypatch.setattr(sysconfig, "get_paths", get_paths)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.core", FakeCore().module())
    return here


def test_the_bundles_kernels_come_first_and_spare_tritons_pause(built, machine):
    bundle = Bundle.open(built)
    folder = KernelFiles.of(bundle).folder
    assert choose_kernels(bundle) == folder
    assert choose_kernels(bundle, "triton") is None
    assert choose_kernels(bundle, "aot") == folder


@pytest.mark.parametrize("lacks", ["triton", "compiler", "headers"])
def test_without_triton_the_bundles_kernels_run(built, machine, lacks):
    setattr(machine, lacks, False)
    bundle = Bundle.open(built)
    assert choose_kernels(bundle) == KernelFiles.of(bundle).folder


def test_triton_runs_where_the_bundle_has_none_or_nothing_launches_them(
    built, policy_bundle, machine, monkeypatch, caplog
):
    assert choose_kernels(Bundle.open(policy_bundle)) is None
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    assert choose_kernels(Bundle.open(built)) is None
    assert not caplog.records


def test_a_c_compiler_may_be_named_by_the_environment(policy_bundle, machine, monkeypatch):
    machine.compiler = False
    monkeypatch.setenv("CC", "/opt/cc")
    assert choose_kernels(Bundle.open(policy_bundle)) is None


def test_with_neither_both_remedies_are_named(policy_bundle, machine):
    machine.triton = False
    with pytest.raises(BackendError) as caught:
        choose_kernels(Bundle.open(policy_bundle))
    assert "Triton is not installed" in str(caught.value)
    assert "pip install 'revstep[cuda]'" in str(caught.value)
    assert f"revstep compile {policy_bundle} --kernels" in str(caught.value)


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        ("compiler", r"no C compiler.*install gcc.*compile .* --kernels"),
        ("headers", r"no headers of Python.*python3-dev.*compile .* --kernels"),
    ],
)
def test_what_triton_lacks_is_named_with_both_remedies(policy_bundle, machine, lacks, message):
    setattr(machine, lacks, False)
    with pytest.raises(BackendError, match=message):
        choose_kernels(Bundle.open(policy_bundle))


@pytest.mark.parametrize(
    ("wanted", "bundle", "lacks", "error", "message"),
    [
        ("triton", "built", "triton", BackendError, r"asked for.*not installed; pip install"),
        ("triton", "built", "compiler", BackendError, "asked for.*no C compiler"),
        ("aot", "policy_bundle", None, BackendError, r"no compiled ones; run: revstep compile"),
        ("aot", "built", "core", BackendError, r"need cuda\.core.*pip install 'revstep\[cuda\]'"),
        ("auto", "built", "core", BackendError, r"not installed, and those.*need cuda\.core"),
        ("cubin", "built", None, ValueError, "allowed: auto, triton, aot"),
    ],
)
def test_what_was_asked_for_and_is_missing_is_named(
    wanted, bundle, lacks, error, message, request, machine, monkeypatch
):
    if lacks == "core":
        machine.triton = False
        monkeypatch.setitem(sys.modules, "cuda.core", None)
    elif lacks:
        setattr(machine, lacks, False)
    with pytest.raises(error, match=message):
        choose_kernels(Bundle.open(request.getfixturevalue(bundle)), wanted)


def test_stale_and_damaged_kernels_are_refused_where_they_are_needed(
    built, copy_of, machine, caplog
):
    path = copy_of(built)
    folder = KernelFiles.of(Bundle.open(path)).folder
    flip(folder / "begin_step.ptx", 40)
    unverified = Bundle.open(path, verify=False)
    assert choose_kernels(unverified) is None
    assert "Triton compiles the step's kernels anew" in caplog.text
    command = f"revstep compile {path} --kernels --gpu sm_80"
    with pytest.raises(BundleError, match=rf"begin_step\.ptx has sha256.*{command}"):
        choose_kernels(unverified, "aot")
    flip(folder / "begin_step.ptx", 40)
    index = folder / "kernels.json"
    index.write_text(index.read_text().replace('"source_sha256": "', '"source_sha256": "0'))
    rehash(path, f"kernels/{folder.name}/kernels.json")
    with pytest.raises(BundleError, match=rf"another revstep's source.*{command}"):
        choose_kernels(Bundle.open(path), "aot")


@pytest.fixture
def made(monkeypatch):
    """A GPU as far as ``load`` goes; what runtimes were made with."""
    runtimes = []

    def runtime(denoiser, **options):
        runtimes.append(options)
        return runtime_file.host_runtime(denoiser)

    def denoiser(graph, spec, where):
        return OrtDenoiser(graph, spec, threads=1)

    monkeypatch.setattr(loading, "driver_gpus", lambda: 1)
    monkeypatch.setattr(loading, "cuda_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(loading, "candidates", lambda *asked: ["onnxruntime"])
    monkeypatch.setattr(runtime_file, "cuda_runtime", runtime)
    monkeypatch.setattr("revstep.engine.backends.onnx_cuda.OrtCudaDenoiser", denoiser)
    return runtimes


def test_load_gives_the_runtime_the_kernels_that_work(built, machine, made):
    folder = KernelFiles.of(Bundle.open(built)).folder
    revstep.load(built, cuda=revstep.CudaOptions(kernels="triton"))
    revstep.load(built)
    machine.triton = False
    revstep.load(built)
    assert [(o["kernels"], o["kernels_folder"]) for o in made] == [
        ("triton", None), ("aot", folder), ("aot", folder),
    ]  # fmt: skip


def test_load_without_kernels_names_them_and_auto_goes_to_the_cpu(
    policy_bundle, machine, made, caplog
):
    machine.triton = False
    with pytest.raises(BackendError, match=r"revstep\[cuda\].*revstep compile .* --kernels"):
        revstep.load(policy_bundle, device="cuda")
    with caplog.at_level(logging.WARNING, "revstep"):
        assert revstep.load(policy_bundle).describe()["device"] == "cpu"
    assert "passed over on CUDA: the step on a GPU needs its kernels" in caplog.text


def test_kernels_are_for_gpus(built):
    with pytest.raises(ValueError, match="kernels= needs a GPU"):
        revstep.load(built, device="cpu", cuda=revstep.CudaOptions(kernels="aot"))
    with pytest.raises(ValueError, match="allowed: auto, triton, aot"):
        revstep.load(built, cuda=revstep.CudaOptions(kernels="cuda"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"name": "cuda"}, "allowed: triton, aot"), ({"name": "aot"}, "folder")],
)
def test_kernels_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        GpuKernels(torch.device("cpu"), **options)


@pytest.fixture
def gpu(built, monkeypatch):
    """The emulator as a GPU of capability 8.6, and step kernels on it."""
    core = FakeCore()
    core.capability = (8, 6)
    monkeypatch.setitem(sys.modules, "cuda", types.ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.core", core.module())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: core.capability)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: "stream")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(cubin, "_need_gpu", lambda device: None)
    return core, GpuKernels(torch.device("cpu"), "aot", KernelFiles.of(Bundle.open(built)).folder)


def test_describe_reports_what_code_runs(gpu):
    core, kernels = gpu
    assert kernels.describe() == "aot (sm_80)"
    core.capability = (12, 0)
    assert kernels.describe() == "aot (ptx)"


@pytest.mark.parametrize("history", [1, 3])
@pytest.mark.parametrize("x0", [False, True])
def test_the_engines_own_buffers_find_their_kernels(gpu, built, history, x0):
    core, kernels = gpu
    kernels.prepare(_buffers(Bundle.open(built).spec, history, x0)).warm_up()
    assert [kind for kind, *_ in core.loaded] == ["cubin", "cubin"]
    assert len(core.launches) == 2


def test_initial_noise_is_that_of_the_cpu(gpu, built):
    core, kernels = gpu
    core.capability = (12, 0)
    elements = Bundle.open(built).spec.elements
    seeds = np.array([3, 1 << 63], np.uint64)
    out, seed = torch.zeros(2, elements), torch.from_numpy(seeds.view(np.int64))
    core.tensors += [out, seed]
    kernels.initial_noise(out, seed)
    want = np.empty((2, elements), np.float32)
    normal_fill(want, seeds, 0, STREAM_INITIAL)
    np.testing.assert_array_equal(out.numpy().view(np.uint32), want.view(np.uint32))


def test_a_gpu_that_refuses_the_code_is_a_backend_error(gpu, built):
    core, kernels = gpu
    core.fails = RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU")
    spec = Bundle.open(built).spec
    with pytest.raises(BackendError, match=r"aot kernels can't run here.*NO_BINARY_FOR_GPU"):
        kernels.prepare(_buffers(spec))


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (RuntimeError("Failed to find C compiler. Please specify via CC"), True),
        (subprocess.CalledProcessError(1, ["gcc", "main.c"]), True),
        (RuntimeError("Triton Error [CUDA]: device-side assert"), False),
    ],
)
def test_a_launcher_that_triton_cannot_build_is_named(built, monkeypatch, error, named):
    class Failing:
        def __init__(self, buffers):
            pass

        def warm_up(self):
            raise error

    monkeypatch.setattr("revstep.kernels.gpu.launch.TritonStep", Failing)
    kernels = GpuKernels(torch.device("cpu"))
    with pytest.raises(BackendError if named else RuntimeError) as caught:
        kernels.prepare(_buffers(Bundle.open(built).spec))
    assert ("install gcc and Python's headers" in str(caught.value)) == named


def _buffers(spec, history=1, x0=False):
    from revstep.kernels import columns as col

    slots = Slots(spec, 4, TorchHost())
    network = NetworkBuffers.allocate(spec, 4, torch.float32, torch.device("cpu"))
    return slots.step_buffers(torch.zeros(8, col.COLUMNS), network, history, x0, False)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
def test_on_a_gpu_compiled_kernels_give_tritons_bits(built):
    pytest.importorskip("cuda.core", reason="cuda.core is not installed", exc_type=ImportError)
    options = {"device": "cuda", "buckets": (4,)}
    try:
        triton = revstep.load(built, cuda=revstep.CudaOptions(kernels="triton"), **options)
    except BackendError as error:
        pytest.skip(f"no backend on this GPU: {error}")
    aot = revstep.load(built, cuda=revstep.CudaOptions(kernels="aot"), **options)
    assert aot.describe()["kernels"].startswith("aot (")
    run = {"steps": 8, "seed": 3, "sampler": "ddpm"}
    np.testing.assert_array_equal(aot.sample(4, **run).x, triton.sample(4, **run).x)
