"""Native kernels against the reference: the same bits for every feature, on every ISA."""

import threading

import numpy as np
import pytest

from revstep.kernels import StepKernel, native_isas, noise, normal_fill, reference
from revstep.kernels import columns as col
from revstep.kernels.dispatch import backend

pytestmark = pytest.mark.skipif(backend() != "native", reason="built without native kernels")

ISAS = ("avx512", "avx2", "baseline", "scalar")
DTYPES = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}


@pytest.fixture(params=ISAS)
def isa(request):
    if request.param not in native_isas():
        pytest.skip(f"this machine has no {request.param}")
    return request.param


def _run_both(buf, isa, copy_step, assert_same_bits, steps=3):
    want, got = copy_step(buf), copy_step(buf)
    native = StepKernel(got, backend="native", isa=isa)
    for _ in range(steps):
        native.begin()
        reference.begin_step(want)
        native.step()
        reference.fused_step(want)
        assert_same_bits(got, want)
    return got


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [1, 3, 19, 111, 1001, 2056])
def test_step_equals_reference_for_every_feature(
    isa, dtype, D, make_step, copy_step, assert_same_bits
):
    rng = np.random.default_rng([D, len(dtype)])
    for trial in range(16):
        buf = make_step(
            rng,
            B=int(rng.integers(1, 6)),
            D=D,
            dtype=DTYPES[dtype],
            history=int(rng.integers(0, 4)),
            learned=bool(trial & 1),
            inpaint=bool(trial & 2),
            x0=bool(trial & 4),
            bad=bool(trial & 8),
            two_times=bool(trial & 5),
        )
        _run_both(buf, isa, copy_step, assert_same_bits)


def test_non_finite_output_gives_the_canonical_nan_and_a_flag(isa, make_step):
    buf = make_step(np.random.default_rng(1), B=2, D=1030, dtype=np.uint16, x0=True, history=1)
    buf.table[:, [col.P_M, col.C_X, col.C_0]] = 0.5
    buf.table[:, [col.LO, col.HI]] = [-1, 1]
    buf.counter[:] = 0
    buf.uncond_row[:] = -1
    for place in (0, 500, 1029):  # first and last tile
        buf.output[buf.cond_row[1], place] = 0x7F80  # infinity, which the clip would hide
    kernel = StepKernel(buf, isa=isa)
    kernel.begin()
    kernel.step()
    assert buf.flags.tolist() == [0, 1]
    for array in (buf.x, buf.x0):
        assert (array[1, [0, 500, 1029]].view(np.uint32) == 0x7FC00000).all()
        assert np.isnan(array).sum() == 3
    assert (buf.net_x[buf.cond_row[1], [0, 500, 1029]] == 0x7FC0).all()


def test_every_float16_is_read_and_written_exactly(isa, make_step):
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    buf = make_step(np.random.default_rng(2), B=1, D=every.size, dtype=np.float16, history=0)
    row = buf.table[buf.base[0]]
    row[:] = 0
    row[[col.C_M, col.ACTIVE]] = 1
    row[col.SLOT] = -1
    buf.table[buf.base[0] + 1, col.C_IN] = 1
    buf.counter[:], buf.uncond_row[:] = 0, -1
    buf.output[buf.cond_row[0]] = every
    kernel = StepKernel(buf, isa=isa)
    kernel.begin()
    kernel.step()
    finite = np.isfinite(every)
    want = np.where(finite, every.astype(np.float32), np.float32(np.nan))
    np.testing.assert_array_equal(buf.x[0], want)
    written = buf.net_x[buf.cond_row[0]].view(np.uint16)
    np.testing.assert_array_equal(
        written, np.where(finite, every.view(np.uint16), np.uint16(0x7E00))
    )


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_rounding_to_network_dtype_equals_reference_at_ties(isa, dtype, make_step):
    rng = np.random.default_rng(3)
    words = rng.integers(0, 1 << 32, 1 << 16, np.uint64).astype(np.uint32)
    ties = (words & np.uint32(0xFFFF0000)) | np.uint32(0x8000)  # halfway in bfloat16
    halves = (words & np.uint32(0xFFFFE000)) | np.uint32(0x1000)  # halfway in float16
    small = (words & np.uint32(0x807FFFFF)) | (rng.integers(96, 120, words.size) << 23).astype(
        np.uint32
    )  # float16's denormals
    large = np.array([65504, 65519.996, 65520, 7e4, 3.4e38, np.inf], np.float32).view(np.uint32)
    values = np.concatenate([words, ties, halves, small, large]).view(np.float32)
    buf = make_step(np.random.default_rng(4), B=1, D=values.size, dtype=DTYPES[dtype], history=0)
    row = buf.table[buf.base[0]]
    row[:] = 0
    row[[col.C_X, col.ACTIVE]] = 1
    row[col.SLOT] = -1
    buf.table[buf.base[0] + 1, col.C_IN] = 1
    buf.counter[:], buf.uncond_row[:] = 0, -1
    buf.x[0] = values
    kernel = StepKernel(buf, isa=isa)
    kernel.begin()
    kernel.step()
    with np.errstate(all="ignore"):
        want = reference.network_from_float32(values, buf.net_x.dtype)
    got = buf.net_x[buf.cond_row[0]].view(np.uint16)
    number = ~np.isnan(values)
    np.testing.assert_array_equal(got[number], want.view(np.uint16)[number])


@pytest.mark.parametrize("D", [1, 3, 4, 19, 127, 128, 129, 1001, 3072, 5000])
def test_normal_fill_equals_reference(isa, D):
    seeds = np.array([0, 1, 0x0123456789ABCDEF, (1 << 64) - 1], np.uint64)
    for index, stream in ((0, 0), (7, 1), ([5, 6, 7, (1 << 32) - 1], 2)):
        want, got = np.empty((4, D), np.float32), np.full((4, D + 8), 9, np.float32)
        normal_fill(want, seeds, index, stream, backend="reference")
        inner = np.empty((4, D), np.float32)
        normal_fill(inner, seeds, index, stream, isa=isa)
        np.testing.assert_array_equal(inner.view(np.uint32), want.view(np.uint32))
        for b in range(4):  # nothing is written behind the end
            one = np.broadcast_to(index, (4,))[b]
            normal_fill(got[b : b + 1].reshape(-1)[:D][None], seeds[b : b + 1], one, stream)
            np.testing.assert_array_equal(got[b, :D], want[b])
        assert (got[:, D:] == 9).all()


def test_golden_normals(isa):
    out = np.empty((1, 8), np.float32)
    normal_fill(out, np.array([0x0123456789ABCDEF], np.uint64), 7, noise.STREAM_STEP, isa=isa)
    words = "3f452b8f 3f94c54f 3fd4e32d 3f0a3d88 3f630070 bfabbad4 bfbd0cad befab88e"
    assert [f"{w:08x}" for w in out[0].view(np.uint32)] == words.split()


def test_step_refuses_what_leaves_memory_and_writes_nothing(isa, make_step, copy_step, arrays_of):
    def broken(change):
        buf = make_step(np.random.default_rng(5), B=3, history=1)
        buf.counter[:] = 0
        kernel = StepKernel(buf, isa=isa)
        kernel.begin()
        change(buf)
        return buf, kernel

    def set_row(column, value):
        def change(buf):
            buf.table[buf.current[2], column] = value

        return change

    changes = {
        "cond_row": lambda buf: buf.cond_row.__setitem__(2, 99),
        "uncond_row": lambda buf: buf.uncond_row.__setitem__(2, 99),
        "current": lambda buf: buf.current.__setitem__(2, -5),
        "active row": lambda buf: (
            buf.current.__setitem__(2, len(buf.table) - 1),
            buf.table.__setitem__((-1, col.ACTIVE), 1),
        ),
        "history": set_row(col.STORE, 1),
        "read of table row": set_row(col.H_2, 0.5),
        "noise index": set_row(col.NOISE, np.nan),
    }
    for message, change in changes.items():
        buf, kernel = broken(change)
        before = copy_step_unchecked(buf, arrays_of)
        with pytest.raises(ValueError, match=message):
            kernel.step()
        for name, array in arrays_of(buf).items():
            np.testing.assert_array_equal(array, before[name], err_msg=name)
        with pytest.raises(ValueError, match=r"\d"):
            reference.fused_step(buf)

    buf, kernel = broken(lambda buf: buf.base.__setitem__(1, 10_000))
    before = copy_step_unchecked(buf, arrays_of)
    with pytest.raises(ValueError, match="table row of slot 1"):
        kernel.begin()
    np.testing.assert_array_equal(buf.counter, before["counter"])
    with pytest.raises(ValueError, match="slot 1"):
        reference.begin_step(buf)


def copy_step_unchecked(buf, arrays_of):
    return {name: array.copy() for name, array in arrays_of(buf).items()}


def test_parallel_steps_of_different_buffers_give_the_same_bits(
    make_step, copy_step, assert_same_bits
):
    rng = np.random.default_rng(6)
    steps = [make_step(rng, B=2, D=40_000, dtype=np.float16, learned=True) for _ in range(4)]
    wanted = [copy_step(buf) for buf in steps]
    kernels = [StepKernel(buf) for buf in steps]

    def run(kernel):
        for _ in range(3):
            kernel.begin()
            kernel.step()

    threads = [threading.Thread(target=run, args=(kernel,)) for kernel in kernels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for got, want in zip(steps, wanted, strict=True):
        run(StepKernel(want))
        assert_same_bits(got, want)


def test_prepared_step_keeps_its_arrays_alive(make_step):
    buf = make_step(np.random.default_rng(7), D=4096)
    x = buf.x
    step = StepKernel(buf)
    begin, run = step.begin, step.step
    before = x.copy()
    x_kept = x
    del buf, step, x
    begin()
    run()
    assert not np.array_equal(x_kept, before)
