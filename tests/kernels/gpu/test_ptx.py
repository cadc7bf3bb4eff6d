"""The compiled PTX, run by an emulator, against the reference: the code that a GPU gets."""

import functools

import numpy as np
import pytest

from revstep.kernels import columns as col
from revstep.kernels import noise, reference

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="Triton is not installed")

from ptx_emulator import Kernel, Memory  # noqa: E402
from step_tensors import tensors_of  # noqa: E402

from revstep.kernels.buffers import numpy_views  # noqa: E402
from revstep.kernels.gpu import aot  # noqa: E402
from revstep.kernels.gpu.launch import begin_launch, step_launch  # noqa: E402

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


@functools.cache
def _compiled(variant, capability):
    code = aot.compile_variant(variant, capability)
    return Kernel(code.ptx), code.scratch


def _emulate(variant, launch, capability=80):
    kernel, scratch = _compiled(variant, capability)
    memory = Memory()
    arguments = [_array(v) for v in launch.arguments] + [0] * scratch
    counts = kernel.run(launch.grid, arguments, memory)
    names = [name for name in _names(variant) if name not in variant.constants]
    position = {f"{kernel.parameters[i][1]}": name for i, name in enumerate(names)}
    return counts, {position[n] for n in memory.read}, {position[n] for n in memory.written}


def _names(variant):
    from revstep.kernels.gpu import step as step_kernels

    return getattr(step_kernels, f"{variant.kernel}_kernel").arg_names


def _array(value):
    if not isinstance(value, torch.Tensor):
        return value
    if value.dtype == torch.bfloat16:
        value = value.view(torch.int16)
    return value.numpy()


def _step(device, capability=80, calls=128):
    launch = step_launch(device, calls)
    c = launch.constants
    dtype = str(device.net_x.dtype).removeprefix("torch.")
    variant = aot.Variant(
        "fused_step", dtype, c["ALIGNED"], c["HISTORY"], c["X0"], c["INPAINT"], c["LEARNED"], calls
    )
    return _emulate(variant, launch, capability)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("D", "options"),
    [
        (20, {"history": 3, "x0": True}),
        (19, {"history": 3, "inpaint": True, "learned": True, "x0": True}),
        (1032, {"history": 1, "learned": True}),
        (516, {"history": 0, "inpaint": True}),
    ],
)
@pytest.mark.parametrize("capability", [80, 90])
def test_ptx_equals_reference(
    dtype, D, options, capability, make_step, copy_step, assert_same_bits
):
    rng = np.random.default_rng([D, len(dtype)])
    for trial in range(4):
        two = trial > 1
        buf = make_step(
            rng, B=3, D=D, dtype=DTYPES[dtype], bad=bool(trial % 2), two_times=two, **options
        )
        buf.counter[:2] = 0
        want, device = copy_step(buf), tensors_of(buf)
        for _ in range(2):
            begin = aot.Variant("begin_step", two_times=two)
            _emulate(begin, begin_launch(device), capability)
            reference.begin_step(want)
            _step(device, capability)
            reference.fused_step(want)
            assert_same_bits(numpy_views(device), want)


def test_large_block_equals_reference(make_step, copy_step, assert_same_bits):
    buf = make_step(np.random.default_rng(8), B=2, D=1500, dtype=np.float16, history=1)
    want, device = copy_step(buf), tensors_of(buf)
    _emulate(aot.Variant("begin_step"), begin_launch(device))
    _step(device, calls=256)
    reference.begin_step(want)
    reference.fused_step(want)
    assert_same_bits(numpy_views(device), want)


def test_memory_is_read_only_for_present_terms(make_step):
    buf = make_step(np.random.default_rng(9), B=1, D=64, history=3, inpaint=True, learned=True)
    buf.counter[:] = 0
    buf.uncond_row[:] = -1
    row = np.zeros(col.COLUMNS, np.float32)
    row[[col.ACTIVE, col.C_X, col.H_2, col.SLOT]] = 1, 1, 1, -1
    buf.table[buf.base[0]] = row
    buf.current[:] = buf.base
    device = tensors_of(buf)
    plain, read, written = _step(device)
    assert read & {"output", "q1", "q2", "q3", "mask", "known"} == {"q2"}
    assert written == {"x", "net_x"}
    device.table[buf.base[0], col.S] = 1
    noisy, read, _ = _step(device)
    assert "output" in read  # the variance half
    assert noisy[0] > plain[0] + 200  # noise is computed only where s is not 0


def test_identity_row_ends_at_once(make_step):
    buf = make_step(np.random.default_rng(10), B=2, D=64, history=3, x0=True)
    buf.current[:] = buf.base + buf.length
    counts, read, written = _step(tensors_of(buf))
    assert max(counts) < 30
    assert read == {"table", "current"}
    assert written == set()


@pytest.mark.parametrize("D", [1001, 1024])
def test_normal_fill_equals_reference(D):
    seeds = np.array([0, (1 << 64) - 1], np.uint64)
    want = np.empty((2, D), np.float32)
    reference.normal_fill(want, seeds, 7, noise.STREAM_KNOWN)
    got = np.zeros_like(want)
    variant = aot.Variant("normal_fill", aligned=D % 4 == 0)
    kernel, scratch = _compiled(variant, 80)
    size = D if D % 4 else D // 4
    arguments = [got, seeds, seeds, 7, noise.STREAM_KNOWN, size] + [0] * scratch
    kernel.run((-(-D // 512), 2), arguments, Memory())
    assert (got.view(np.uint32) == want.view(np.uint32)).all()
