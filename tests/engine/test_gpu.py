"""What only a GPU can show: graphs and eager steps agree, and so do precisions and backends."""

import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from toys import build  # noqa: E402

import revstep  # noqa: E402
from revstep.engine import BackendError, DeviceMemoryError, NonFiniteError, Timing  # noqa: E402

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
    eager = revstep.from_module(*policy, graphs=False, **options)
    graph = revstep.from_module(*policy, **options)
    unrolled = revstep.from_module(*policy, unroll=(8,), **options)
    assert graph.describe()["graphs"] == "on"
    for n, guidance in ((1, 1.0), (3, 1.5), (4, 3.0)):
        run = {**RUN, **OBSERVED, "sampler": sampler, "guidance": guidance}
        want = eager.sample(n, **run).x
        np.testing.assert_array_equal(graph.sample(n, **run).x, want)
        np.testing.assert_array_equal(unrolled.sample(n, **run).x, want)
        watched = graph.sample(n, progress=lambda k, total: None, on_step=lambda p: None, **run)
        np.testing.assert_array_equal(watched.x, want)


@pytest.mark.parametrize("kind", ["policy", "image", "tabular"])
def test_the_gpu_agrees_with_the_cpu(kind):
    module, spec, _ = build(kind)
    gpu = revstep.from_module(module, spec, device="cuda", buckets=(4,))
    cpu = revstep.from_module(module, spec, device="cpu")
    for sampler in SAMPLERS:
        got, want = (e.sample(4, sampler=sampler, **RUN).x for e in (gpu, cpu))
        np.testing.assert_allclose(got, want, atol=2e-4)


def test_the_sampler_gives_the_cpus_bits_where_the_network_does():
    _, spec, _ = build("tabular")

    class Half(torch.nn.Module):
        def forward(self, x, t):
            return 0.5 * x

    gpu = revstep.from_module(Half(), spec, device="cuda", buckets=(4,))
    cpu = revstep.from_module(Half(), spec, device="cpu")
    for sampler in ["ddim", "dpmpp_2m"]:
        np.testing.assert_array_equal(
            gpu.sample(4, sampler=sampler, **RUN).x, cpu.sample(4, sampler=sampler, **RUN).x
        )


def test_a_compiled_module_agrees_and_is_captured(policy):
    engine = revstep.from_module(*policy, device="cuda", compile=True, buckets=(4,))
    assert engine.describe()["graphs"] == "on"
    eager = revstep.from_module(*policy, device="cuda", graphs=False, buckets=(4,))
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
    want = revstep.from_module(module, spec, device="cuda", graphs=False, buckets=(4,))
    np.testing.assert_array_equal(engine.sample(3, **RUN).x, want.sample(3, **RUN).x)


def test_a_capture_that_breaks_leaves_the_engine_and_torch_usable(policy, caplog):
    from revstep.engine.backends.torch_module import TorchModuleDenoiser

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
    assert float(torch.ones(3, device="cuda").sum()) == 3.0


def test_no_memory_is_named_and_the_engine_goes_on(policy):
    module, spec = policy

    class Hungry(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x, t, observation):
            if len(x) > 4:
                torch.empty(1 << 45, dtype=torch.uint8, device=x.device)
            return self.inner(x, t, observation)

    with pytest.raises(DeviceMemoryError, match="buckets="):
        revstep.from_module(Hungry().eval(), spec, device="cuda", buckets=(4, 8))
    options = {"device": "cuda", "buckets": (4, 8), "graphs": False, "warm_up": False}
    engine = revstep.from_module(Hungry().eval(), spec, **options)
    with pytest.raises(DeviceMemoryError, match="smaller batch_size"):
        engine.sample(8, **RUN)
    assert engine.sample(4, **RUN).x.shape == (4, 8, 2)


def test_fp16_overflow_is_named_with_its_cure(policy):
    _, spec = policy

    class Large(torch.nn.Module):
        def forward(self, x, t, observation):
            return x * 60000.0

    engine = revstep.from_module(Large(), spec, device="cuda", precision="fp16", buckets=(4,))
    with pytest.raises(NonFiniteError, match="precision='bf16' or 'fp32'"):
        engine.sample(2, **RUN)
    with pytest.raises(NonFiniteError, match="at step"):
        engine.sample(2, progress=lambda k, n: None, **RUN)


def test_tf32_is_off_by_default(policy):
    _, spec = policy
    torch.manual_seed(0)

    class Conv(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv1d(8, 8, 1)

        def forward(self, x, t, observation):
            return self.conv(x)

    module = Conv().eval()
    exact = revstep.from_module(module, spec, device="cpu").sample(8, **RUN).x
    gpu = revstep.from_module(module, spec, device="cuda", buckets=(8,)).sample(8, **RUN).x
    np.testing.assert_allclose(gpu, exact, atol=2e-5 * np.abs(exact).max())


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
    eager = revstep.load(demo_bundle, device="cuda", graphs=False, **options)
    cpu = revstep.load(demo_bundle, device="cpu", threads=2)
    run = {**RUN, "conditions": {"class_labels": [0, 1, 2, 3]}}
    np.testing.assert_allclose(gpu.sample(4, **run).x, cpu.sample(4, **run).x, atol=1e-3)
    np.testing.assert_array_equal(gpu.sample(4, **run).x, eager.sample(4, **run).x)
