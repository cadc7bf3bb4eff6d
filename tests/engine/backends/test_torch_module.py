"""The torch backend: precisions, copies, capture checks, compile, and ``from_module``."""

import threading
import time

import numpy as np
import pytest
from specs import spec_of

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from toys import build  # noqa: E402

import revstep  # noqa: E402
from revstep import Engine, NetworkBuffers  # noqa: E402
from revstep.engine.backends.module import denoiser as torch_module  # noqa: E402
from revstep.engine.backends.module.denoiser import (  # noqa: E402
    TorchModuleDenoiser,
    prepare_module,
)
from revstep.engine.backends.module.sync_watch import sync_reason  # noqa: E402
from revstep.errors import BackendError  # noqa: E402
from suites.torch_host import torch_host_runtime  # noqa: E402

CPU = torch.device("cpu")


def test_from_module_samples_the_module_on_the_cpu():
    module, spec, _ = build("policy")
    engine = revstep.from_module(module, spec, device="cpu")
    observation = np.ones((3, 4), np.float32)
    options = {"steps": 6, "seed": 2, "guidance": 1.5, "conditions": {"observation": observation}}
    got = engine.sample(3, **options).x
    want = Engine(TorchModuleDenoiser(module, spec)).sample(3, **options).x
    np.testing.assert_array_equal(got, want)
    described = engine.describe()
    assert described["backend"] == "torch"
    assert described["device"] == "cpu"
    assert described["precision"] == "fp32"


@pytest.mark.parametrize("kind", ["policy", "image"])
def test_whole_networks_run_alike_in_both_runtimes(kind):
    module, spec, _ = build(kind)
    denoiser = TorchModuleDenoiser(module, spec)
    rows = 6
    eager, device = Engine(denoiser), Engine(torch_host_runtime(denoiser, buckets=(rows,)))
    options = {"steps": 5, "seed": 3, "sampler": "dpmpp_2m"}
    np.testing.assert_array_equal(device.sample(rows, **options).x, eager.sample(rows, **options).x)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_stays_near_and_gives_the_module_float32(precision):
    module, spec, _ = build("policy")
    seen = []

    class Noting(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = module

        def forward(self, x, t, observation):
            seen.append((x.dtype, t.dtype, observation.dtype))
            return self.inner(x, t, observation)

    engine = revstep.from_module(Noting().eval(), spec, device="cpu", precision=precision)
    half = engine.sample(4, steps=4, seed=0).x
    assert set(seen) == {(torch.float32,) * 3}
    full = revstep.from_module(module, spec, device="cpu").sample(4, steps=4, seed=0).x
    assert 0 < np.abs(half - full).max() < 0.05
    assert engine.describe()["precision"] == precision
    assert next(module.parameters()).dtype == torch.float32  # the caller's is untouched


def test_a_module_that_fits_is_used_as_it_is_and_others_are_copied():
    module, _, _ = build("policy")
    assert prepare_module(module, CPU, torch.float32) is module
    half = prepare_module(module, CPU, torch.float16)
    assert half is not module
    module.train()  # its owner's business: what runs then is a copy that shares its weights
    assert prepare_module(module, CPU, torch.float32) is module
    assert not prepare_module(module, CPU, torch.float16).training
    assert module.training
    module.eval()


def _with_item(x, index, value):
    x[index] = value
    return x


class Wrapped(nn.Module):
    """A policy-shaped network with one more operation."""

    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, x, t, observation):
        return self.operation(x, t)


@pytest.mark.parametrize(
    ("operation", "operator"),
    [
        (lambda x, t: x * t.max().item(), "_local_scalar_dense"),
        (lambda x, t: x if t.sum() > 0 else -x, "_local_scalar_dense"),
        (lambda x, t: x + x[x > 0].sum(), "index"),
        (lambda x, t: x + x.nonzero().sum(), "nonzero"),
        (lambda x, t: x + torch.masked_select(x, x > 0).sum(), "masked_select"),
        (lambda x, t: x + torch.unique(t).sum(), "_unique2"),
        (lambda x, t: x if not torch.equal(x, x) else x * 2, "equal"),
        (lambda x, t: _with_item(x.clone(), x > 0, x[x < 0][:1].expand(3)), "index"),
    ],
)
def test_operators_that_wait_for_the_device_are_found(operation, operator):
    _, spec, _ = build("policy")
    reason = TorchModuleDenoiser(Wrapped(operation), spec).capturable
    assert reason is not None
    assert f"aten::{operator} " in reason


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, t: torch.where(x > 0, x, t.reshape(-1, 1, 1)),
        lambda x, t: x[:, torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])],
        lambda x, t: torch.zeros_like(x).copy_(x).clamp(min=0) + x.max(),
        lambda x, t: _with_item(x.clone(), x > 0, 0.0),
    ],
)
def test_ordinary_operators_can_be_captured(operation):
    _, spec, _ = build("policy")
    assert TorchModuleDenoiser(Wrapped(operation), spec).capturable is None


def test_a_value_that_is_on_the_host_already_is_not_waited_for():
    call = Wrapped(lambda x, t: x * t.max().item())
    inputs = torch.ones(2, 8, 2), torch.ones(2), None
    assert "aten::_local_scalar_dense" in sync_reason(lambda: call(*inputs), CPU)
    assert sync_reason(lambda: call(*inputs), torch.device("cuda")) is None


def test_a_module_that_cannot_run_under_a_dispatch_mode_is_left_to_the_capture():
    from torch.utils._python_dispatch import _get_current_dispatch_mode

    def picky(x, t):
        if _get_current_dispatch_mode() is not None:
            raise NotImplementedError("no rule registered for this operator and mode")
        return x

    _, spec, _ = build("policy")
    assert TorchModuleDenoiser(Wrapped(picky), spec).capturable is None

    def hungry(x, t):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        _ = TorchModuleDenoiser(Wrapped(hungry), spec).capturable


@pytest.mark.parametrize("kind", ["policy", "image", "tabular"])
def test_the_toys_can_be_captured(kind):
    module, spec, _ = build(kind)
    assert TorchModuleDenoiser(module, spec).capturable is None


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda x, t: (x, t), "returned tuple with 0.*expected one tensor"),
        (lambda x, t: x[:, :1], r"\(2, 1, 2\), expected \(2, 8, 2\)"),
    ],
)
def test_a_wrong_output_is_refused(result, message):
    _, spec, _ = build("policy")
    call = TorchModuleDenoiser(Wrapped(result), spec).bind(NetworkBuffers.allocate(spec, 2))
    with pytest.raises(BackendError, match=message):
        call()


@pytest.fixture
def switches():
    """torch's two TF32 switches, put back afterwards."""
    matmul, conv = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, conv.allow_tf32
    yield matmul, conv
    matmul.allow_tf32, conv.allow_tf32 = before


@pytest.mark.parametrize("wanted", [False, True])
def test_tf32_is_as_asked_inside_a_call_and_restored(switches, wanted):
    matmul, conv = switches
    matmul.allow_tf32 = conv.allow_tf32 = not wanted
    with torch_module._products(torch.device("cuda"), wanted):
        assert (matmul.allow_tf32, conv.allow_tf32) == (wanted, wanted)
    assert (matmul.allow_tf32, conv.allow_tf32) == (not wanted, not wanted)


def test_two_threads_that_want_tf32_otherwise_leave_the_switches_as_they_were(switches):
    matmul, conv = switches
    matmul.allow_tf32 = conv.allow_tf32 = True
    seen = {False: [], True: []}

    def work(wanted):
        for _ in range(50):
            with torch_module._products(torch.device("cuda"), wanted):
                time.sleep(1e-4)
                seen[wanted].append((matmul.allow_tf32, conv.allow_tf32) == (wanted, wanted))

    threads = [threading.Thread(target=work, args=(wanted,)) for wanted in (False, True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(seen[False])
    assert all(seen[True])
    assert (matmul.allow_tf32, conv.allow_tf32) == (True, True)


def test_compile_goes_through_torch_compile_with_one_shape_a_bucket(monkeypatch):
    module, spec, _ = build("policy")
    asked, limits = [], []

    def compiled(given, **options):
        asked.append((given.module is module, options))

        def run(*inputs):
            limits.append(torch._dynamo.config.recompile_limit)
            return given(*inputs)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    engine = revstep.from_module(module, spec, device="cpu", compile=True)
    want = revstep.from_module(module, spec, device="cpu").sample(2, steps=2, seed=0).x
    np.testing.assert_array_equal(engine.sample(2, steps=2, seed=0).x, want)
    assert asked == [(True, {"dynamic": False, "options": {"triton.cudagraphs": False}})]
    assert engine.describe()["compiled"] is True
    assert limits[0] >= 64  # beyond torch's own limit of shapes it runs eagerly, and says nothing


@pytest.mark.slow
def test_a_compiled_module_stays_near_the_eager_one():
    module, spec, _ = build("policy")
    engine = revstep.from_module(module, spec, device="cpu", compile=True)
    want = revstep.from_module(module, spec, device="cpu").sample(3, steps=3, seed=0).x
    np.testing.assert_allclose(engine.sample(3, steps=3, seed=0).x, want, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"device": "tpu"}, ValueError, "allowed: auto, cpu, cuda"),
        ({"precision": "fp8"}, ValueError, "allowed: fp32, fp16, bf16"),
        ({"device": "cpu", "cuda": revstep.CudaOptions(unroll=(4,))}, ValueError, "needs a GPU"),
        ({"device": "cpu", "buckets": (0,)}, ValueError, "outside the denoiser's batch range"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    module, spec, _ = build("policy")
    with pytest.raises(error, match=message):
        revstep.from_module(module, spec, **options)


def test_no_module_and_no_spec_are_refused():
    module, spec, _ = build("policy")
    with pytest.raises(TypeError, match=r"torch\.nn\.Module; got function"):
        revstep.from_module(lambda x, t: x, spec, device="cpu")
    with pytest.raises(TypeError, match="DenoiserSpec; got dict"):
        revstep.from_module(module, {}, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_named_with_a_way_on():
    module, spec, _ = build("policy")
    with pytest.raises(BackendError, match="device='cpu'"):
        revstep.from_module(module, spec, device="cuda")


def test_what_a_module_raises_says_how_it_was_called():
    spec = spec_of(shape=(3,), conditions=(revstep.Condition(name="goal", shape=(2,), null=0.0),))
    engine = revstep.from_module(nn.Linear(3, 3).eval(), spec, device="cpu")
    with pytest.raises(TypeError, match="positional arguments") as caught:
        engine.sample(4)
    assert caught.value.__notes__ == [
        "revstep called the module with sample float32 (4, 3), timestep float32 (4,), "
        "goal float32 (4, 2), in the spec's order"
    ]
