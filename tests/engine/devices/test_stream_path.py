"""The code that only runs with a CUDA stream, on a CPU: streams and pinned memory are stand-ins,
and the Triton kernels run in Triton's interpreter on the very buffers that a GPU's would get."""

import contextlib
import types

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from interpreted import interpreted_kernels  # noqa: E402

from revstep import (  # noqa: E402
    Condition,
    DenoiserSpec,
    Engine,
    NetworkBuffers,
    Timing,
    build_program,
)
from revstep.engine.backends.module.denoiser import TorchModuleDenoiser  # noqa: E402
from revstep.engine.devices.cuda import CudaDevice  # noqa: E402
from revstep.engine.runtime.batch import Batch  # noqa: E402
from revstep.engine.runtime.lane import Lane  # noqa: E402
from revstep.engine.runtime.loop import run_batch  # noqa: E402
from revstep.engine.runtime.runtime import device_runtime  # noqa: E402
from revstep.schedules import VPSchedule  # noqa: E402
from suites.torch_host import CallLists  # noqa: E402


class Event:
    """An event that complains where one without times is asked for them."""

    now = 0

    def __init__(self, enable_timing):
        self.timed, self.at = enable_timing, None

    def record(self, stream):
        Event.now += 1
        self.at = Event.now

    def synchronize(self):
        assert self.at is not None

    def elapsed_time(self, later):
        assert self.timed
        assert later.timed
        return float(later.at - self.at)  # milliseconds


@pytest.fixture
def device(monkeypatch):
    from revstep.kernels.gpu import launch

    empty, pinned = torch.empty, {"up": 0, "down": 0}

    def allocate(*shape, pin_memory=False, device=None, **options):
        if pin_memory:
            assert device == "cpu"  # whatever the default device is
            pinned["down"] += 1
        return empty(*shape, device=device, **options)

    monkeypatch.setattr(torch, "empty", allocate)

    def pin_memory(tensor):
        pinned["up"] += 1
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the caller's")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(launch, "_kernels_for", lambda t, kernels: interpreted_kernels())
    waited = []
    stream = types.SimpleNamespace(wait_stream=waited.append, synchronize=lambda: None)
    yield CudaDevice(torch.device("cpu"), stream)
    assert waited
    assert set(waited) == {"the caller's"}
    assert all(pinned.values())


class RowNet(torch.nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.outputs = outputs

    def forward(self, x, t, shift):
        noise = (0.02 * (t * 0.01 + shift)).to(x.dtype)
        out = 0.9 * x + noise.reshape(-1, *[1] * (x.ndim - 1))
        return torch.cat([out, 0.5 * x], dim=1) if self.outputs == 2 else out


def pair(device, shape, dtype=torch.float32, learned=False, **options):
    spec = DenoiserSpec(
        shape=shape,
        schedule=VPSchedule(),
        prediction="epsilon",
        conditions=(Condition(name="shift", null=0.0),),
        batch=(1, 4),
        learned_variance=learned,
    )
    module = RowNet(2 if learned else 1).eval()
    denoiser = TorchModuleDenoiser(module, spec, dtype=dtype)
    runtime = device_runtime(denoiser, device, graphs=CallLists(), buckets=(4,), **options)
    return Engine(denoiser), Engine(runtime)


def assert_same(pair, n, **options):
    want, got = (engine.sample(n, seed=2**63 + 5, **options).x for engine in pair)
    np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(2, 4), (3, 3)])  # whole and broken quads
def test_the_triton_step_gives_the_eager_loops_bits(device, shape, dtype):
    engines = pair(device, shape, dtype, unroll=(3,))
    assert engines[1].describe()["kernels"] == "triton"
    for sampler in ("ddim", "ddpm", "dpmpp_2m"):
        assert_same(engines, 3, sampler=sampler, steps=3, conditions={"shift": [0.0, 1.0, 0.5]})
    assert_same(engines, 2, sampler="ddpm", steps=2, guidance=2.0, conditions={"shift": 0.5})


def test_known_pixels_and_learned_variance_give_the_eager_loops_bits(device):
    engines = pair(device, (2, 4), learned=True)
    known = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
    mask = (known > 0).astype(np.float32)
    assert_same(engines, 2, sampler="ddpm", steps=3, mask=mask, known=known)
    assert_same(engines, 2, sampler="ddpm", steps=3)


def test_a_watched_and_a_timed_run_give_the_same(device):
    eager, triton = engines = pair(device, (2, 4))
    seen = {engine: [] for engine in engines}
    for engine in engines:
        engine.sample(2, steps=3, seed=1, on_step=lambda p, e=engine: seen[e].append(p.x0))
    np.testing.assert_array_equal(np.stack(seen[triton]), np.stack(seen[eager]))
    timing = Timing()
    assert_same((eager, triton), 2, steps=3)
    triton.sample(2, steps=3, timing=timing)
    assert timing.network_ns == [1_000_000] * 3  # between the events around the network
    assert timing.outside_ns == [2_000_000] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_samples_that_come_beside_others_get_the_bits_that_they_get_alone(device, dtype):
    spec = DenoiserSpec(shape=(3, 3), schedule=VPSchedule(), prediction="epsilon",
                        conditions=(Condition(name="shift", null=0.0),), batch=(1, 4))  # fmt: skip
    denoiser = TorchModuleDenoiser(RowNet().eval(), spec, dtype=dtype)

    def batch(n, seed):
        shift = {"shift": np.full(n, 0.5, np.float32)}
        seeds = np.arange(seed, seed + n, dtype=np.uint64)
        return Batch(seeds, np.full(n, 1.5, np.float32), shift, {"shift": np.zeros(n, np.float32)})

    def lane():
        buffers = NetworkBuffers.allocate(spec, 8, dtype, denoiser.device)
        return Lane(denoiser, (8,), device, buffers, graphs=CallLists())

    program, other = build_program(spec, "ddpm", 3), build_program(spec, "ddim", 5)
    with device.use():
        want = run_batch(lane(), program, batch(2, 5))
        shared = lane()
        leaves, stays = (shared.admit(other, batch(1, seed)) for seed in (1, 2))
        shared.step()
        shared.retire(leaves)
        came = shared.admit(program, batch(2, 5))  # in slots 0 and 2
        last = shared.admit(program, batch(1, 5))  # in slot 3, at no multiple of 16 bytes
        assert (came.slots.tolist(), last.slots.tolist()) == ([0, 2], [3])
        while not shared.done(last):
            shared.step()
        for admitted, rows in ((came, want), (last, want[:1])):
            got = shared.states(admitted).numpy()
            np.testing.assert_array_equal(got.view(np.uint32), rows.view(np.uint32))
        shared.retire(stays)
