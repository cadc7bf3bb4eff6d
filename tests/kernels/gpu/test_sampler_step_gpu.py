"""The Triton step on a GPU against the reference, bit for bit, and inside a CUDA graph."""

import numpy as np
import pytest

from revstep.kernels import noise, reference

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="Triton is not installed")

from step_tensors import tensors_of  # noqa: E402

from revstep.kernels.buffers import numpy_views  # noqa: E402
from revstep.kernels.gpu import aot  # noqa: E402
from revstep.kernels.gpu.cubin import CubinStep  # noqa: E402
from revstep.kernels.gpu.launch import TritonStep, normal_fill  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
DTYPES = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [1, 19, 20, 3072, 100_003])
@pytest.mark.parametrize("calls", [128, 256])
def test_step_equals_reference_for_every_feature(
    dtype, D, calls, make_step, copy_step, assert_same_bits
):
    rng = np.random.default_rng([D, len(dtype)])
    for trial in range(8):
        buf = make_step(
            rng,
            B=int(rng.integers(1, 6)),
            D=D,
            dtype=DTYPES[dtype],
            history=trial % 4,
            learned=bool(trial & 1),
            inpaint=bool(trial & 2),
            x0=bool(trial & 4),
            bad=bool(rng.integers(2)),
            two_times=bool(trial & 5),
        )
        want, device = copy_step(buf), tensors_of(buf, "cuda")
        kernel = TritonStep(device, calls=calls)
        for _ in range(3):
            kernel.begin()
            kernel.step()
            reference.begin_step(want)
            reference.fused_step(want)
            assert_same_bits(numpy_views(device), want)


def test_warm_up_touches_nothing(make_step, assert_same_bits):
    buf = make_step(np.random.default_rng(1), bad=True)
    device = tensors_of(buf, "cuda")
    TritonStep(device).warm_up()
    torch.cuda.synchronize()
    assert_same_bits(numpy_views(device), buf)


def test_replays_of_a_graph_equal_the_reference(make_step, copy_step, assert_same_bits):
    buf = make_step(np.random.default_rng(2), B=5, D=784, dtype=np.float16, x0=True)
    buf.counter[:] = 0
    want, device = copy_step(buf), tensors_of(buf, "cuda")
    kernel = TritonStep(device)
    kernel.warm_up()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernel.begin()
        kernel.step()
    for _ in range(3):
        graph.replay()
        reference.begin_step(want)
        reference.fused_step(want)
        assert_same_bits(numpy_views(device), want)


@pytest.mark.parametrize("index", [0, (1 << 32) - 1])
def test_normal_fill_equals_reference(index):
    seeds = np.array([0, (1 << 64) - 1, 3], np.uint64)
    for D in (1001, 4096):
        want = np.empty((3, D), np.float32)
        reference.normal_fill(want, seeds, index, noise.STREAM_INITIAL)
        got = torch.empty(3, D, device="cuda")
        key = torch.from_numpy(seeds.view(np.int64)).cuda()
        normal_fill(got, key, index, noise.STREAM_INITIAL)
        assert (got.cpu().numpy().view(np.uint32) == want.view(np.uint32)).all()


@pytest.mark.parametrize("portable", [True, False])
def test_compiled_files_equal_reference(portable, tmp_path, make_step, copy_step, assert_same_bits):
    pytest.importorskip("cuda.core", reason="cuda.core is not installed")
    major, minor = torch.cuda.get_device_capability()
    capabilities = [] if portable else [10 * major + minor]
    aot.write_kernels(tmp_path, ["float16"], 784, capabilities=capabilities)
    buf = make_step(np.random.default_rng(3), B=4, D=784, dtype=np.float16, x0=True)
    buf.counter[:] = 0
    want, device = copy_step(buf), tensors_of(buf, "cuda")
    kernel = CubinStep(device, tmp_path)
    for _ in range(2):
        kernel.begin()
        kernel.step()
        reference.begin_step(want)
        reference.fused_step(want)
        assert_same_bits(numpy_views(device), want)
