"""Devices and backends of ``load``: what is chosen, what is passed over, and how it is said."""

import logging
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

import revstep  # noqa: E402
from revstep.engine.backends import onnx_cuda as ort_cuda  # noqa: E402
from revstep.engine.backends.onnx_cpu import onnx_session  # noqa: E402
from revstep.engine.backends.protocol import NetworkBuffers  # noqa: E402
from revstep.engine.bundle.reader import Bundle  # noqa: E402
from revstep.engine.devices import choose as devices  # noqa: E402
from revstep.engine.open import bundle as loading  # noqa: E402
from revstep.errors import BackendError, DeviceMemoryError  # noqa: E402

CPU = torch.device("cpu")
no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@pytest.fixture
def gpu_here(monkeypatch):
    """A machine with a driver, a GPU and a CUDA build of torch, as far as the choice goes."""
    monkeypatch.setattr(loading, "driver_gpus", lambda: 1)
    monkeypatch.setattr(loading, "cuda_device", lambda name: torch.device("cuda", 0))


@no_gpu
@pytest.mark.parametrize("backend", ["auto", "onnxruntime", "tensorrt", "tensorrt_rtx"])
def test_cuda_without_a_gpu_is_refused_with_a_way_on(tabular_bundle, backend):
    with pytest.raises(BackendError, match="device='cpu'"):
        revstep.load(tabular_bundle, device="cuda:0", backend=backend)


@no_gpu
def test_auto_without_a_gpu_takes_the_cpu(tabular_bundle, caplog):
    assert revstep.load(tabular_bundle).describe()["device"] == "cpu"
    assert "passed over" not in caplog.text


def test_auto_passes_over_a_useless_gpu_aloud(tabular_bundle, monkeypatch, caplog):
    def useless(name):
        raise BackendError("torch 2.13.0+cpu is built without CUDA")

    monkeypatch.setattr(loading, "driver_gpus", lambda: 1)
    monkeypatch.setattr(loading, "cuda_device", useless)
    with caplog.at_level(logging.WARNING, "revstep"):
        engine = revstep.load(tabular_bundle)
    assert caplog.text.count("CUDA is passed over: torch 2.13.0+cpu is built") == 1
    assert "runs on the CPU" in caplog.text
    assert engine.describe()["device"] == "cpu"
    with pytest.raises(BackendError, match=r"^torch 2.13.0\+cpu is built without CUDA$"):
        revstep.load(tabular_bundle, device="cuda")


@pytest.fixture
def tried(monkeypatch, gpu_here):
    """Stands for the GPU's backends: a list of what is tried, and a dict of what fails."""
    names, failing = [], {}

    def runner(options, name, where, *, exactly):
        names.append(name)
        if name in failing:
            raise failing[name]
        return loading._cpu_runtime(options, "onnxruntime", exactly=True)[1]

    monkeypatch.setattr(loading, "_gpu_runtime", runner)
    real = loading.candidates
    monkeypatch.setattr(
        loading,
        "candidates",
        lambda bundle, kind, *precision: (
            ["tensorrt", "onnxruntime"] if kind == "cuda" else real(bundle, kind, *precision)
        ),
    )
    return names, failing


def test_auto_prefers_tensorrt_on_a_gpu(tabular_bundle, tried):
    revstep.load(tabular_bundle)
    assert tried[0] == ["tensorrt"]


@pytest.mark.parametrize("error", [BackendError, DeviceMemoryError])
def test_auto_goes_on_to_the_next_backend_with_a_warning(tabular_bundle, tried, caplog, error):
    names, failing = tried
    failing["tensorrt"] = error("no engine for NVIDIA H200 (sm_90); run: revstep compile")
    with caplog.at_level(logging.WARNING, "revstep"):
        revstep.load(tabular_bundle, device="cuda")
    assert names == ["tensorrt", "onnxruntime"]
    assert "tensorrt is passed over on CUDA: no engine for NVIDIA H200 (sm_90)" in caplog.text


def test_cuda_that_was_asked_for_is_never_a_cpu(tabular_bundle, tried):
    _, failing = tried
    failing.update(tensorrt=BackendError("no plan"), onnxruntime=BackendError("no provider"))
    with pytest.raises(BackendError, match=r"tensorrt on CUDA: no plan; onnxruntime.*no provider"):
        revstep.load(tabular_bundle, device="cuda")
    assert revstep.load(tabular_bundle).describe()["device"] == "cpu"


def test_a_backend_that_was_asked_for_has_no_substitute(tabular_bundle, tried):
    names, failing = tried
    failing["tensorrt"] = BackendError("no plan")
    with pytest.raises(BackendError, match="no plan"):
        revstep.load(tabular_bundle, backend="tensorrt")
    assert names == ["tensorrt"]


def test_onnxruntime_on_any_device_takes_the_cpu_where_it_has_no_cuda(
    tabular_bundle, tried, caplog
):
    names, failing = tried
    failing["onnxruntime"] = BackendError("onnxruntime has no CUDA provider")
    assert revstep.load(tabular_bundle, backend="onnxruntime").describe()["device"] == "cpu"
    assert names == ["onnxruntime"]
    assert "passed over on CUDA: onnxruntime has no CUDA provider" in caplog.text
    with pytest.raises(BackendError, match="no CUDA provider"):
        revstep.load(tabular_bundle, backend="onnxruntime", device="cuda")


def test_engines_that_no_gpu_is_here_for_are_passed_over_aloud(tabular_bundle, monkeypatch, caplog):
    import dataclasses

    from revstep.engine.bundle.entry import CompiledEntry

    monkeypatch.setattr(loading, "driver_gpus", lambda: 0)
    bundle = Bundle.open(tabular_bundle)
    entry = CompiledEntry(
        key="0" * 32, target="tensorrt_rtx", precision="fp32", runtime="tensorrt_rtx",
        version="1.7", device="sm_89", batch=(1, 1), file="engines/x.plan", parity="no", tuned=1,
    )  # fmt: skip
    monkeypatch.setattr(
        loading.Bundle, "open", lambda *a, **k: dataclasses.replace(bundle, compiled=(entry,))
    )
    revstep.load(tabular_bundle)
    assert "no NVIDIA GPU or driver was found for its TensorRT plans" in caplog.text
    caplog.clear()
    revstep.load(tabular_bundle, device="cpu")
    assert "TensorRT" not in caplog.text


def test_a_cpu_that_was_asked_for_tries_no_gpu(tabular_bundle, tried):
    assert revstep.load(tabular_bundle, device="cpu").describe()["device"] == "cpu"
    assert tried[0] == []


@pytest.mark.parametrize(
    ("version", "available", "count", "message"),
    [
        (None, False, 0, "built without CUDA"),
        ("13.0", False, 0, "revstep doctor"),
        ("13.0", True, 2, "there is no GPU 5; this machine has 2"),
    ],
)
def test_what_is_missing_for_cuda_is_named(monkeypatch, version, available, count, message):
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(devices, "_has_driver", lambda: True)
    with pytest.raises(BackendError, match=message):
        devices.cuda_device("cuda:5")


def test_a_missing_driver_is_named_before_what_to_install(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(devices, "_has_driver", lambda: False)
    with pytest.raises(BackendError, match="no NVIDIA driver here: use device='cpu'"):
        devices.cuda_device("cuda")


def test_driver_gpus_without_a_driver_are_none(monkeypatch):
    monkeypatch.setattr(devices, "DRIVER", "libno_such_driver.so.1")
    assert devices.driver_gpus() == 0


class FakeSession:
    """An ONNX Runtime session that notes what it is asked."""

    def __init__(self, real, providers):
        self._real, self._providers = real, providers
        self.bound, self.runs, self.fails = {}, [], None

    def get_providers(self):
        return self._providers

    def get_inputs(self):
        return self._real.get_inputs()

    def get_outputs(self):
        return self._real.get_outputs()

    def io_binding(self):
        bind = types.SimpleNamespace()
        bind.bind_input = bind.bind_output = lambda name, *rest: self.bound.update({name: rest})
        return bind

    def run_with_iobinding(self, binding, options):
        key = "disable_synchronize_execution_providers"
        if self.fails is not None:
            raise self.fails
        try:
            self.runs.append(options.get_run_config_entry(key))
        except RuntimeError:  # it is not set
            self.runs.append(None)


@pytest.fixture
def ort(monkeypatch, tabular_bundle):
    """onnxruntime with a CUDA provider that behaves as ``behave`` says."""
    import onnxruntime

    real = onnxruntime.InferenceSession
    graph = Bundle.open(tabular_bundle).graph("fp32")
    ort = types.SimpleNamespace(behave="works", asked=[])

    def session(path, options, providers):
        strict = True
        try:
            options.get_session_config_entry("session.disable_cpu_ep_fallback")
        except RuntimeError:
            strict = False
        ort.asked.append((providers, strict))
        if strict and "CPUExecutionProvider" in providers:
            raise RuntimeError("explicitly added the CPU EP, but also disabled fallback to it")
        if strict and ort.behave != "works":
            raise RuntimeError("nodes on CPU, but fallback to CPU EP has been explicitly disabled")
        first = ["CPUExecutionProvider"] if ort.behave == "silent" else ["CUDAExecutionProvider"]
        ort.session = FakeSession(
            real(path, providers=["CPUExecutionProvider"]), [*first, "CPUExecutionProvider"]
        )
        return ort.session

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    stream = types.SimpleNamespace(cuda_stream=1234)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    ort.graph, ort.spec = graph, Bundle.open(tabular_bundle).spec
    return ort


def test_onnxruntime_on_cuda_binds_the_tensors_on_our_stream(ort):
    denoiser = ort_cuda.OrtCudaDenoiser(ort.graph, ort.spec, torch.device("cuda", 1))
    (providers, strict) = ort.asked[0]
    name, options = providers[0]
    assert name == "CUDAExecutionProvider"
    assert strict
    assert options == {
        "device_id": "1", "enable_cuda_graph": "0", "use_tf32": "0", "user_compute_stream": "1234",
    }  # fmt: skip
    assert "can't be recorded" in denoiser.capturable  # replays would reuse freed memory
    assert denoiser.describe()["operators_on_cpu"] is False
    buffers = NetworkBuffers.allocate(ort.spec, 4, torch.float32, torch.device("cpu"))
    call = denoiser.bind(buffers)
    call()
    assert ort.session.runs == ["1"]
    for name, tensor in (("row", buffers.x), ("t", buffers.t), ("out", buffers.out)):
        place, gpu, dtype, shape, address = ort.session.bound[name]
        assert (place, gpu, dtype) == ("cuda", 1, np.float32)
        assert tuple(shape) == tuple(tensor.shape)
        assert address == tensor.data_ptr()


def test_operators_on_the_cpu_are_waited_for(ort):
    ort.behave = "mixed"
    denoiser = ort_cuda.OrtCudaDenoiser(ort.graph, ort.spec, torch.device("cuda", 0))
    assert denoiser.describe()["operators_on_cpu"] is True
    assert [strict for _, strict in ort.asked] == [True, False]
    denoiser.bind(NetworkBuffers.allocate(ort.spec, 4, torch.float32, CPU))()
    assert ort.session.runs == [None]


def test_a_run_that_fails_on_the_gpu_is_a_backends_error(ort):
    denoiser = ort_cuda.OrtCudaDenoiser(ort.graph, ort.spec, torch.device("cuda", 0))
    call = denoiser.bind(NetworkBuffers.allocate(ort.spec, 4, torch.float32, CPU))
    ort.session.fails = type("Fail", (Exception,), {})("CUDNN failure 4")
    with pytest.raises(BackendError, match="failed on cuda:0: CUDNN failure 4"):
        call()


def test_a_cuda_provider_that_silently_is_the_cpu_is_refused(ort):
    ort.behave = "silent"
    with pytest.raises(BackendError, match="chose CPUExecutionProvider instead of CUDA"):
        ort_cuda.OrtCudaDenoiser(ort.graph, ort.spec, torch.device("cuda", 0))


def test_a_strict_session_must_not_name_the_cpu(tabular_bundle):
    """What the fake session above says of the real one: its options contradict each other."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    graph = str(Bundle.open(tabular_bundle).graph("fp32"))
    with pytest.raises(Exception, match="explicitly added the CPU EP"):
        onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match=ort_cuda.ON_CPU):
        onnxruntime.InferenceSession(graph, options)


@no_gpu
def test_an_onnxruntime_without_cuda_is_named_with_its_fix(tabular_bundle, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"pip install 'revstep\[cuda\]'"):
        onnx_session(Bundle.open(tabular_bundle).graph("fp32"), gpu=0)
