"""What only a GPU can show: graphs and eager steps agree, and so do precisions and backends."""

import logging
import threading
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from every_dtype import CONDITIONS, Every, spec, values  # noqa: E402
from toys import build  # noqa: E402

import revstep  # noqa: E402
from revstep import DenoiserSpec, Timing  # noqa: E402
from revstep.errors import BackendError, DeviceMemoryError, NonFiniteError  # noqa: E402
from revstep.schedules import VPSchedule  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine"),
]

SAMPLERS = ["ddim", "ddpm", "dpmpp_2m"]
RUN = {"steps": 8, "seed": 3}
OBSERVED = {"conditions": {"observation": np.linspace(-1, 1, 4, dtype=np.float32)}}


@pytest.fixture(scope="module")
def policy():
    module, spec, _ = build("policy")
    return module, spec


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_graph_unrolled_graph_and_eager_steps_agree_bit_for_bit(policy, sampler, precision):
    options = {"device": "cuda", "precision": precision, "buckets": (2, 8)}
    eager = revstep.from_module(*policy, cuda=revstep.CudaOptions(graphs=False), **options)
    graph = revstep.from_module(*policy, **options)
    unrolled = revstep.from_module(*policy, cuda=revstep.CudaOptions(unroll=(8,)), **options)
    assert graph.describe()["graphs"] == "on"
    for n, guidance in ((1, 1.0), (3, 1.5), (4, 3.0)):
        run = {**RUN, **OBSERVED, "sampler": sampler, "guidance": guidance}
        want = eager.sample(n, **run).x
        np.testing.assert_array_equal(graph.sample(n, **run).x, want)
        np.testing.assert_array_equal(unrolled.sample(n, **run).x, want)
        watched = graph.sample(n, progress=lambda k, total: None, on_step=lambda p: None, **run)
        np.testing.assert_array_equal(watched.x, want)


# an error of 1e-5 in the toy's output, as GPUs' exp and sin make it; TF32 would exceed all
@pytest.mark.parametrize(("kind", "atol"), [("policy", 1e-4), ("image", 2e-3), ("tabular", 1e-4)])
def test_the_gpu_agrees_with_the_cpu(kind, atol):
    module, spec, _ = build(kind)
    gpu = revstep.from_module(module, spec, device="cuda", buckets=(4,))
    cpu = revstep.from_module(module, spec, device="cpu")
    for sampler in SAMPLERS:
        got, want = (e.sample(4, sampler=sampler, **RUN).x for e in (gpu, cpu))
        np.testing.assert_allclose(got, want, atol=atol)


class Half(torch.nn.Module):
    """The same bits on every device and in every batch."""

    def forward(self, x, t, *conditions):
        return 0.5 * x


def test_the_sampler_gives_the_cpus_bits_where_the_network_does(policy):
    spec = policy[1]
    gpu = revstep.from_module(Half(), spec, device="cuda", buckets=(3, 8))
    cpu = revstep.from_module(Half(), spec, device="cpu")
    rng = np.random.default_rng(0)
    for k in range(12):  # one run's uploads must not reach the one before
        run = {"sampler": SAMPLERS[k % 3], "steps": 2 + k, "seed": 2**63 + k, **OBSERVED}
        n, guidance = (2 + k % 3, 2.0) if k % 2 else (1 + k % 8, 1.0)
        start = {"start": rng.random((n, 8, 2), np.float32), "strength": 0.7} if k % 4 == 3 else {}
        got, want = (e.sample(n, guidance=guidance, **run, **start).x for e in (gpu, cpu))
        np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_reproducible_sample_does_not_depend_on_its_company(policy, precision):
    engine = revstep.from_module(
        *policy, device="cuda", precision=precision, reproducible=True, buckets=(16,)
    )
    run = {"steps": 8, "sampler": "ddpm", **OBSERVED}
    together = engine.sample(11, seed=list(range(11)), **run).x
    for k in (0, 4, 10):
        np.testing.assert_array_equal(engine.sample(1, seed=[k], **run).x[0], together[k])


def test_what_graphs_hold_is_neither_moved_nor_reused(policy):
    engine = revstep.from_module(
        *policy, device="cuda", cuda=revstep.CudaOptions(unroll=(8,)), buckets=(2, 8)
    )
    watch = {"on_step": lambda preview: None}
    want = [engine.sample(n, **RUN, **more).x for n in (2, 8) for more in ({}, watch)]
    torch.cuda.empty_cache()
    others = [torch.full((1 << 20,), torch.nan, device="cuda") for _ in range(64)]
    torch.cuda.synchronize()
    got = [engine.sample(n, **RUN, **more).x for n in (2, 8) for more in ({}, watch)]
    np.testing.assert_array_equal(np.concatenate(got), np.concatenate(want))
    assert all(bool(other.isnan().all()) for other in others)


def test_engines_load_and_sample_in_threads_at_once(policy):
    options = {"device": "cuda", "buckets": (2, 4)}
    first = revstep.from_module(*policy, **options)
    want = first.sample(4, **RUN).x
    wrong, done = [], threading.Event()

    def load():
        try:
            for _ in range(4):
                engine = revstep.from_module(*policy, **options)
                if engine.describe()["graphs"] != "on":
                    wrong.append(engine.describe()["graphs"])
                if not np.array_equal(engine.sample(4, **RUN).x, want):
                    wrong.append("a fresh engine")
        except Exception as error:
            wrong.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=load)
    thread.start()
    while not done.is_set():
        if not np.array_equal(first.sample(4, **RUN).x, want):
            wrong.append("the first engine")
    thread.join()
    assert wrong == []


def test_weights_that_the_caller_still_writes_are_waited_for(policy):
    spec = policy[1]
    live = build("policy")[0].cuda()
    engine = revstep.from_module(live, spec, device="cuda", buckets=(4,))
    before = engine.sample(4, **RUN).x
    with torch.no_grad():
        torch.cuda._sleep(int(2e8))  # about a tenth of a second
        for p in live.parameters():
            p.mul_(1.5)
    after = engine.sample(4, **RUN).x
    assert not np.array_equal(after, before)
    want = revstep.from_module(live, spec, device="cuda", buckets=(4,)).sample(4, **RUN).x
    np.testing.assert_array_equal(after, want)


def test_progress_reports_steps_that_the_gpu_has_done(policy):
    """Callbacks come while the rest of the run is still to do, and no sooner than their step."""
    spec = policy[1]

    class Slow(torch.nn.Module):
        def forward(self, x, t, observation):
            torch.cuda._sleep(int(2e7))  # about 10 ms
            return 0.5 * x

    engine = revstep.from_module(Slow(), spec, device="cuda", buckets=(2,))
    assert engine.describe()["graphs"] == "on"
    whole = Timing()
    engine.sample(2, timing=whole, **RUN)
    step_s = np.median(whole.network_ns) * 1e-9
    began, reported = time.perf_counter(), []
    engine.sample(2, progress=lambda k, n: reported.append(time.perf_counter() - began), **RUN)
    for k, at in enumerate(reported, 1):
        assert at > 0.5 * k * step_s  # the device was done, at whatever clock
        assert at < (k + 1.5) * step_s + 0.03  # and nobody waited for the run's end


@pytest.mark.filterwarnings("ignore")  # the compiler's own advice
def test_a_compiled_module_agrees_and_is_captured(policy):
    engine = revstep.from_module(*policy, device="cuda", compile=True, buckets=(4,))
    assert engine.describe()["graphs"] == "on"
    eager = revstep.from_module(
        *policy, device="cuda", cuda=revstep.CudaOptions(graphs=False), buckets=(4,)
    )
    np.testing.assert_allclose(engine.sample(4, **RUN).x, eager.sample(4, **RUN).x, atol=1e-4)


def test_a_module_that_waits_for_the_gpu_runs_eagerly_and_says_so(policy, caplog):
    module, spec = policy

    class Waiting(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x, t, observation):
            return self.inner(x, t, observation) * (1.0 if t.sum().item() >= 0 else 2.0)

    with caplog.at_level(logging.WARNING, "revstep"):
        engine = revstep.from_module(Waiting().eval(), spec, device="cuda", buckets=(4,))
    assert "_local_scalar_dense" in caplog.text
    want = revstep.from_module(
        module, spec, device="cuda", cuda=revstep.CudaOptions(graphs=False), buckets=(4,)
    )
    np.testing.assert_array_equal(engine.sample(3, **RUN).x, want.sample(3, **RUN).x)


def test_a_capture_that_breaks_leaves_the_engine_and_torch_usable(policy, caplog):
    from revstep.engine.backends.module.denoiser import TorchModuleDenoiser

    module, spec = policy

    class Hidden(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x, t, observation):
            torch.cuda.current_stream().synchronize()  # no operator: only the capture notices
            return self.inner(x, t, observation)

    assert TorchModuleDenoiser(Hidden(), spec).capturable is None
    with caplog.at_level(logging.WARNING, "revstep"):
        engine = revstep.from_module(Hidden().eval(), spec, device="cuda", buckets=(2, 4))
    assert "no CUDA graph was captured" in caplog.text
    want = revstep.from_module(module, spec, device="cuda", buckets=(2, 4))  # with graphs again
    assert want.describe()["graphs"] == "on"
    np.testing.assert_array_equal(engine.sample(3, **RUN).x, want.sample(3, **RUN).x)
    torch.cuda.empty_cache()  # fails where the allocator is still recording
    assert float(torch.ones(3, device="cuda").sum()) == 3.0


def test_no_memory_is_named_and_the_engine_goes_on(policy):
    module, spec = policy

    class Hungry(torch.nn.Module):
        most = 4

        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x, t, observation):
            if len(x) > Hungry.most:
                torch.empty(1 << 45, dtype=torch.uint8, device=x.device)
            return self.inner(x, t, observation)

    options = {"device": "cuda", "buckets": (4, 8)}
    with pytest.raises(DeviceMemoryError, match=r"buckets=\(4,\)"):
        revstep.from_module(Hungry().eval(), spec, **options)
    Hungry.most = 8
    engine = revstep.from_module(
        Hungry().eval(), spec, cuda=revstep.CudaOptions(graphs=False), **options
    )
    Hungry.most = 4
    want = engine.sample(4, **RUN).x
    with pytest.raises(DeviceMemoryError, match="smaller batch_size"):
        engine.sample(8, **RUN)
    np.testing.assert_array_equal(engine.sample(4, **RUN).x, want)


def test_fp16_overflow_is_named_with_its_fix(policy):
    _, spec = policy

    class Large(torch.nn.Module):
        def forward(self, x, t, observation):
            return x @ (60000.0 * torch.eye(2, device=x.device))

    engine = revstep.from_module(Large(), spec, device="cuda", precision="fp16", buckets=(4,))
    with pytest.raises(NonFiniteError, match="precision='bf16' or 'fp32'"):
        engine.sample(2, **RUN)
    with pytest.raises(NonFiniteError, match="at step"):
        engine.sample(2, progress=lambda k, n: None, **RUN)


class Spectral(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x, t):
        return self.layer(x)


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_float32_products_are_rounded_to_tf32_only_where_asked(kind):
    from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
    from revstep.engine.backends.protocol import NetworkBuffers

    spec = DenoiserSpec(shape=(64, 256), schedule=VPSchedule(), prediction="epsilon")
    device = torch.device("cuda", 0)
    torch.manual_seed(0)
    layer = torch.nn.Linear(256, 256) if kind == "linear" else torch.nn.Conv1d(64, 64, 3, padding=1)
    buffers = NetworkBuffers.allocate(spec, 8, torch.float32, device)
    buffers.x.normal_()
    exact = layer.to(device, torch.float64)(buffers.x.double()).detach()
    layer.float()
    error = {}
    for tf32 in (False, True):
        TorchModuleDenoiser(Spectral(layer).eval(), spec, device=device, tf32=tf32).bind(buffers)()
        error[tf32] = float((buffers.out - exact).abs().max() / exact.abs().max())
    assert error[False] < 1e-5
    if kind == "linear" and torch.cuda.get_device_capability(device) >= (8, 0):
        assert error[True] > 5e-5


def test_timing_has_device_times_of_every_step(policy):
    timing = Timing()
    engine = revstep.from_module(*policy, device="cuda", buckets=(4,))
    engine.sample(4, timing=timing, **RUN)
    assert len(timing.network_ns) == len(timing.outside_ns) == 8
    assert all(ns > 0 for ns in timing.network_ns)


def test_onnxruntime_on_cuda_agrees_with_the_cpu(demo_bundle):
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    options = {"backend": "onnxruntime", "buckets": (4,)}
    try:
        gpu = revstep.load(demo_bundle, device="cuda", **options)
    except BackendError as error:
        pytest.skip(f"ONNX Runtime's CUDA provider does not load here: {error}")
    eager = revstep.load(
        demo_bundle, device="cuda", cuda=revstep.CudaOptions(graphs=False), **options
    )
    cpu = revstep.load(demo_bundle, device="cpu", threads=2)
    run = {**RUN, "conditions": {"class_labels": [0, 1, 2, 3]}}
    np.testing.assert_allclose(gpu.sample(4, **run).x, cpu.sample(4, **run).x, atol=5e-3)
    np.testing.assert_array_equal(gpu.sample(4, **run).x, eager.sample(4, **run).x)
    assert gpu.describe()["graphs"].startswith("refused: ONNX Runtime's runs can't be recorded")


def test_conditions_of_every_dtype_reach_the_gpu():
    form = spec(*CONDITIONS)
    call = {"seed": 0, "steps": 3, "conditions": values(3), "null_conditions": {"shift": 0.25}}
    want = revstep.from_module(Every().eval(), form, device="cpu")
    gpu = revstep.from_module(Every().eval(), form, device="cuda", buckets=(8,))
    assert gpu.describe()["graphs"] == "on"
    for guidance in (1.0, 2.5):
        got = gpu.sample(**call, guidance=guidance).x
        np.testing.assert_allclose(got, want.sample(**call, guidance=guidance).x, atol=1e-3)
