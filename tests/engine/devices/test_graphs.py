"""CUDA graph capture against a model of torch's: what a broken capture leaves behind."""

import contextlib
import gc
import threading
import types

import pytest

torch = pytest.importorskip("torch")

from revstep.engine.devices.cuda import (  # noqa: E402
    CAPTURING,
    CudaDevice,
    memory_named,
)
from revstep.engine.devices.graphs import CudaGraphs  # noqa: E402
from revstep.engine.devices.protocol import CaptureRefused  # noqa: E402
from revstep.engine.errors import BackendError, DeviceMemoryError  # noqa: E402
from suites.torch_host import TorchHost  # noqa: E402


class Torch:
    """torch's captures and allocator, as far as their bookkeeping goes (torch 2.11 to 2.13)."""

    def __init__(self):
        self.capturing = self.broken = self.no_room = False
        self.recording = []  # pools that the allocator records to; its cache is locked meanwhile
        self.used = {}  # pool -> graphs in it
        self.pools = 0
        self.modes = []
        self.current = "the queue's"  # stream
        self.recorded_on = []

    @contextlib.contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    def pool(self):
        self.pools += 1
        return (0, self.pools)

    def end(self, index, pool):
        if pool not in self.recording:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")
        self.recording.remove(pool)

    def release(self, index, pool):
        assert self.used[pool] > 0
        self.used[pool] -= 1

    def empty_cache(self):
        assert not self.recording

    def synchronize(self, device):
        assert not self.capturing

    def graph(self):
        fake = self

        class Graph:
            def capture_begin(self, pool, capture_error_mode):
                assert not fake.capturing
                if pool in fake.recording:
                    raise RuntimeError("beginAllocateToPool: already recording to mempool_id")
                fake.recording.append(pool)
                fake.used[pool] = fake.used.get(pool, 0) + 1
                fake.modes.append(capture_error_mode)
                fake.recorded_on.append(fake.current)
                fake.capturing, self.pool = True, pool

            def capture_end(self):
                if not fake.capturing:
                    raise RuntimeError("CUDA error: cudaErrorIllegalState")
                fake.capturing = False
                if fake.broken:
                    fake.broken = False
                    raise RuntimeError("CUDA error: operation failed due to a previous error")
                fake.end(0, self.pool)
                if fake.no_room:  # instantiating comes last
                    raise RuntimeError("CUDA error: out of memory")

        return Graph()


@pytest.fixture
def fake(monkeypatch):
    fake = Torch()
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", fake.pool)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", fake.graph)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"a new one of {device}")
    monkeypatch.setattr(torch.cuda, "stream", fake.stream)
    monkeypatch.setattr(torch.cuda, "synchronize", fake.synchronize)
    monkeypatch.setattr(torch.cuda, "empty_cache", fake.empty_cache)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", fake.end, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", fake.release, raising=False)
    return fake, CudaGraphs(torch.device("cuda", 0))


def broken_by_cuda(fake):
    def call():
        fake.broken = True
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    return call


def test_calls_are_recorded_in_one_pool_while_other_threads_may_allocate(fake):
    torch_, graphs = fake
    ran = []
    for k in range(3):
        graphs.capture([lambda k=k: ran.append((k, torch_.capturing, gc.isenabled()))])
    assert ran == [(0, True, False), (1, True, False), (2, True, False)]
    assert gc.isenabled()
    assert torch_.used == {(0, 1): 3}
    assert set(torch_.modes) == {"thread_local"}


def test_graphs_are_recorded_on_a_stream_that_runs_nothing(fake):
    """cuBLAS's workspace of the queue's stream lies outside of the pool, and others free it."""
    torch_, graphs = fake
    seen = []
    graphs.capture([lambda: seen.append(torch_.current)])
    with contextlib.suppress(CaptureRefused):
        graphs.capture([broken_by_cuda(torch_)])
    assert seen == ["a new one of cuda:0"]
    assert torch_.recorded_on == ["a new one of cuda:0"] * 2
    assert torch_.current == "the queue's"


@pytest.mark.parametrize("silent", [False, True])
def test_a_capture_that_cuda_breaks_is_refused_and_everything_goes_on(fake, silent):
    torch_, graphs = fake
    graphs.capture([lambda: None])

    def quietly():
        torch_.broken = True

    call = quietly if silent else broken_by_cuda(torch_)
    with pytest.raises(CaptureRefused, match=r"^(operation not permitted|CUDA error)[^\n]*$"):
        graphs.capture([call])
    assert not torch_.capturing
    assert torch_.recording == []  # else torch could never empty its cache again
    assert torch_.used == {(0, 1): 1}
    assert not CAPTURING.locked()
    graphs.capture([lambda: None])


def test_an_error_of_python_ends_the_capture_that_cuda_holds_good(fake):
    torch_, graphs = fake

    def call():
        raise ValueError("not CUDA's")

    with pytest.raises(CaptureRefused, match="not CUDA's"):
        graphs.capture([call])
    assert not torch_.capturing
    assert torch_.recording == []
    assert torch_.used == {(0, 1): 1}  # the graph's own, which releases it


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), KeyboardInterrupt])
def test_what_is_no_refusal_comes_through_and_ends_the_capture(fake, error):
    torch_, graphs = fake

    def call():
        raise error

    with pytest.raises((torch.OutOfMemoryError, KeyboardInterrupt)):
        graphs.capture([call])
    assert not torch_.capturing
    assert torch_.recording == []
    assert gc.isenabled()


def test_a_graph_that_cannot_be_made_after_its_capture_keeps_its_own_pool(fake):
    torch_, graphs = fake
    torch_.no_room = True
    with pytest.raises(CaptureRefused, match="out of memory"):
        graphs.capture([lambda: None])
    assert torch_.used == {(0, 1): 1}  # released by the graph, not twice
    assert torch_.recording == []


def test_memory_is_not_released_while_another_thread_captures(fake):
    torch_, graphs = fake
    inside, go = threading.Event(), threading.Event()

    def call():
        inside.set()
        assert go.wait(10)

    thread = threading.Thread(target=graphs.capture, args=([call],))
    thread.start()
    assert inside.wait(10)
    threading.Timer(0.1, go.set).start()
    device = torch.device("cuda", 0)
    with pytest.raises(DeviceMemoryError), memory_named(device, "in a test", "none"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    thread.join()
    assert torch_.recording == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        type("Fail", (Exception,), {})("Failed to allocate memory for requested buffer"),
        BackendError("ONNX Runtime can't load it: CUDA failure 2: out of memory"),
    ],
)
def test_a_gpu_without_memory_is_named_whoever_says_it(error):
    named = pytest.raises(DeviceMemoryError, match=r"out of memory loading: [^\n]*; use less")
    with named, memory_named(torch.device("cpu"), "loading", "use less"):
        raise error


@pytest.mark.parametrize("error", [ValueError("shape"), BackendError("no plan"), KeyError("x")])
def test_other_errors_are_left_as_they_are(error):
    with pytest.raises(type(error)) as caught, memory_named(torch.device("cpu"), "loading", ""):
        raise error
    assert caught.value is error


def test_a_device_begins_after_the_callers_work_and_without_the_callers_modes(monkeypatch):
    from contextlib import nullcontext

    waited = []
    stream = types.SimpleNamespace(wait_stream=waited.append)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the caller's")
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(torch, "autocast", lambda kind, enabled: nullcontext())
    with CudaDevice(torch.device("cuda", 0), stream).use():
        assert waited == ["the caller's"]
    with torch.inference_mode(), TorchHost().use():
        assert not torch.zeros(1).is_inference()
        assert not torch.is_grad_enabled()
