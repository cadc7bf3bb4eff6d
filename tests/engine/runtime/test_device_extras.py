"""Inpainting, recorded estimates and inversion on the GPU runtime, bit for bit the eager loop's."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from revstep import Condition, DenoiserSpec, Engine  # noqa: E402
from revstep.engine.backends.module.denoiser import TorchModuleDenoiser  # noqa: E402
from revstep.engine.program.samplers import RePaint  # noqa: E402
from revstep.errors import BackendError  # noqa: E402
from revstep.samplers import DDIM  # noqa: E402
from revstep.schedules import VPSchedule  # noqa: E402
from suites.torch_host import CallLists, torch_host_runtime  # noqa: E402

SHAPE = (1, 4, 5)
RNG = np.random.default_rng(3)
KNOWN = RNG.uniform(-1, 1, (11, *SHAPE)).astype(np.float32)
MASKS = (RNG.random((11, *SHAPE)) < 0.5).astype(np.float32)
SPEC = DenoiserSpec(
    shape=SHAPE,
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(Condition(name="shift", null=0.0),),
    batch=(1, 8),
)


class RowNet(nn.Module):
    """Element by element, so that a row's bits don't depend on its batch."""

    def forward(self, x, t, shift):
        return 0.9 * x + 0.02 * (t.to(x.dtype) * 0.01 + shift).reshape(-1, 1, 1, 1)


class CountingGraphs(CallLists):
    captured = 0

    def capture(self, calls):
        self.captured += 1
        return super().capture(calls)


def pair(dtype=torch.float32, **options):
    """(engine on the host, engine on a GPU's lane) over the same module."""
    denoiser = TorchModuleDenoiser(RowNet().eval().to(dtype), SPEC, dtype=dtype)
    return Engine(denoiser), Engine(torch_host_runtime(denoiser, **options))


def assert_same(a, b, n=None, **options):
    want, got = a.sample(n, **options), b.sample(n, **options)
    np.testing.assert_array_equal(got.x.view(np.uint32), want.x.view(np.uint32))
    return want, got


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp_3m", "heun", RePaint(2, 2)], ids=str)
def test_inpainting_gives_the_eager_loops_bits(sampler, dtype):
    a, b = pair(dtype)
    options = {"sampler": sampler, "steps": 6, "seed": 4}
    for n in (1, 3, 11):
        masks, known = MASKS[:n], KNOWN[:n]
        _, got = assert_same(a, b, mask=masks, known=known, **options)
        np.testing.assert_array_equal(got.x[masks == 1], known[masks == 1])
    assert_same(a, b, 2, mask=RNG.random(SHAPE), start=KNOWN[0], strength=0.5, **options)


def test_masked_guided_and_plain_runs_take_turns_on_one_engine():
    graphs = CountingGraphs()
    a, b = pair(graphs=graphs, buckets=(8,), unroll=(5,))
    shift = {"conditions": {"shift": 0.3}}
    for k in range(3):
        assert_same(a, b, 3, steps=5, seed=k)
        assert_same(a, b, 3, steps=5, seed=k, mask=MASKS[0], known=KNOWN[0])
        assert_same(a, b, 2, steps=4, seed=k, mask=MASKS[1], known=KNOWN[1], guidance=2.0, **shift)
        assert_same(a, b, 3, steps=4, seed=k, guidance=[1.0, 2.0, 3.0], **shift)
    assert graphs.captured == 4  # a step and five, with known pixels and without


def test_recorded_estimates_are_the_eager_loops():
    a, b = pair()
    options = {"steps": 7, "seed": 2, "sampler": DDIM(eta=0.5), "trace_x0": (1, 4, -1)}
    want, got = assert_same(a, b, 11, **options)
    assert got.x0_steps == want.x0_steps == (1, 4, 7)
    np.testing.assert_array_equal(got.x0_trace, want.x0_trace)
    _, got = assert_same(a, b, 2, mask=MASKS[0], known=KNOWN[0], **options)
    assert got.x0_trace.shape == (3, 2, *SHAPE)


def test_only_the_recorded_steps_estimates_are_copied_from_the_device():
    _, b = pair(buckets=(8,))
    device, sizes = b._runtime._lanes.lane.device, []
    download = device.download
    device.download = lambda tensor: sizes.append(tensor.ndim) or download(tensor)
    b.sample(3, steps=9, seed=0, trace_x0=(2, 9))
    assert sizes.count(2) == 2 + 1  # two estimates and the final states
    assert sizes.count(1) == 9


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_inversion_gives_the_eager_loops_bits(iterations):
    a, b = pair()
    options = {"steps": 6, "iterations": iterations, "conditions": {"shift": 0.2}}
    np.testing.assert_array_equal(b.invert(KNOWN, **options), a.invert(KNOWN, **options))


def test_a_run_inside_its_own_callback_is_refused_and_the_next_one_is_right():
    a, b = pair()
    with pytest.raises(BackendError, match="its own callback asks for another"):
        b.sample(1, steps=3, seed=0, progress=lambda k, n: b.sample(1, steps=1))
    assert_same(a, b, 3, steps=3, seed=1)
