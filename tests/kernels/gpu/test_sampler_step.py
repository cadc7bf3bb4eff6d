"""The Triton step in Triton's interpreter against the reference, bit for bit."""

import numpy as np
import pytest

from revstep.kernels import columns as col
from revstep.kernels import noise, reference

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("triton", reason="Triton is not installed")

from interpreted import interpreted_kernels  # noqa: E402
from step_tensors import tensors_of  # noqa: E402

from revstep.kernels import StepBuffers  # noqa: E402
from revstep.kernels.buffers import numpy_views  # noqa: E402
from revstep.kernels.gpu.launch import TritonStep, choose_calls, normal_fill  # noqa: E402

DTYPES = {"fp32": np.float32, "fp16": np.float16, "bf16": np.uint16}


def _truncated(values, dtype):
    """What the interpreter stores as bfloat16: the high half of the float32."""
    if dtype != np.uint16:
        return _exact(values, dtype)
    high = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(values), 0x7FC0, high).astype(np.uint16)


_exact = reference.network_from_float32


def _run(buf, steps, calls=512):
    device = tensors_of(buf)
    kernel = TritonStep(device, kernels=interpreted_kernels(), calls=calls)
    kernel.warm_up()
    with np.errstate(all="ignore"):
        for _ in range(steps):
            kernel.begin()
            kernel.step()
    return numpy_views(device)


def _reference(buf, steps, copy_step):
    want = copy_step(buf)
    for _ in range(steps):
        reference.begin_step(want)
        reference.fused_step(want)
    return want


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("D", [1, 3, 20, 111, 2056])
def test_step_equals_reference_for_every_feature(
    dtype, D, make_step, copy_step, assert_same_bits, monkeypatch
):
    monkeypatch.setattr(reference, "network_from_float32", _truncated)
    rng = np.random.default_rng([D, len(dtype)])
    for trial in range(8):
        buf = make_step(
            rng,
            B=int(rng.integers(1, 4)),
            D=D,
            dtype=DTYPES[dtype],
            history=int(rng.integers(0, 4)),
            learned=bool(trial & 1),
            inpaint=bool(trial & 2),
            x0=bool(trial & 4),
            bad=bool(rng.integers(2)),
            two_times=bool(trial & 5),
        )
        for steps in (1, 3):
            assert_same_bits(_run(buf, steps), _reference(buf, steps, copy_step))


def test_absent_terms_are_not_read_and_signs_of_zero_stay(make_step, copy_step, assert_same_bits):
    buf = make_step(np.random.default_rng(3), B=2, D=8, history=3, x0=True)
    buf.counter[:] = 0
    rows = buf.table[buf.base]
    rows[:, col.P_X : col.LO] = 0
    rows[:, col.C_X : col.W] = 0
    rows[:, col.K_X : col.SLOT] = 0
    rows[:, [col.C_X, col.SLOT]] = [1, 2]  # x' = x, q = the empty sum
    buf.table[buf.base] = rows
    buf.x[:] = -0.0
    buf.output[:] = np.nan
    for slot in buf.history:
        slot[:] = np.nan
    want = _reference(buf, 1, copy_step)
    got = _run(buf, 1)
    assert_same_bits(got, want)
    assert np.signbit(got.x).all()
    assert (got.history[2].view(np.uint32) == 0).all()
    assert (got.x0.view(np.uint32) == 0).all()
    assert got.flags.tolist() == [0, 0]


def test_finished_slots_touch_nothing(make_step, arrays_of):
    buf = make_step(np.random.default_rng(4), B=2, D=16, bad=True, x0=True, two_times=True)
    buf.counter[:] = buf.length
    got = arrays_of(_run(buf, 2))
    for name, before in arrays_of(buf).items():
        if name not in ("current", "net_t", "net_t2"):
            bits = f"u{before.itemsize}"
            assert (got[name].view(bits) == before.view(bits)).all(), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_non_finite_output_gives_the_canonical_nan_and_a_flag(dtype, make_step):
    buf = make_step(np.random.default_rng(1), B=2, D=516, dtype=DTYPES[dtype], x0=True)
    buf.table[:, [col.P_M, col.C_X, col.C_0]] = 0.5
    buf.table[:, [col.LO, col.HI]] = [-1, 1]
    buf.counter[:] = 0
    buf.uncond_row[:] = -1
    infinity = reference.network_from_float32(np.array([np.inf], np.float32), buf.output.dtype)
    buf.output[buf.cond_row[1], [0, 515]] = infinity  # which the clip would hide
    got = _run(buf, 1)
    assert got.flags.tolist() == [0, 1]
    for array in (got.x, got.x0):
        assert (array[1, [0, 515]].view(np.uint32) == 0x7FC00000).all()
        assert np.isnan(array).sum() == 2
    nan = {"fp32": 0x7FC00000, "fp16": 0x7E00, "bf16": 0x7FC0}[dtype]
    row = got.net_x[buf.cond_row[1]]
    assert (row.view(f"u{row.itemsize}")[[0, 515]] == nan).all()


@pytest.mark.parametrize("D", [1, 1001, 1024])
@pytest.mark.parametrize("index", [7, (1 << 32) - 1, np.array([0, 1 << 31, 5], np.uint32)])
def test_normal_fill_equals_reference(D, index):
    seeds = np.array([0, (1 << 64) - 1, 0x0123456789ABCDEF], np.uint64)
    want = np.empty((3, D), np.float32)
    reference.normal_fill(want, seeds, index, noise.STREAM_INITIAL)
    got = torch.empty(3, D)
    given = torch.from_numpy(index.view(np.int32)) if isinstance(index, np.ndarray) else index
    with np.errstate(all="ignore"):
        normal_fill(
            got,
            torch.from_numpy(seeds.view(np.int64)),
            given,
            noise.STREAM_INITIAL,
            kernels=interpreted_kernels(),
        )
    assert (got.numpy().view(np.uint32) == want.view(np.uint32)).all()


def test_buffers_go_to_torch_and_back(make_step, assert_same_bits):
    buf = make_step(np.random.default_rng(5), dtype=np.uint16, inpaint=True, x0=True)
    device = tensors_of(buf)
    assert device.net_x.dtype == torch.bfloat16
    assert (device.slots, device.elements, device.network_rows) == (3, 19, buf.network_rows)
    view = numpy_views(device)
    assert_same_bits(view, buf)
    device.x.fill_(2)
    assert (view.x == 2).all()


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("x", torch.zeros(3, 19, dtype=torch.float64), TypeError, "x is float64"),
        ("seed", torch.zeros(3, dtype=torch.int32), TypeError, "seed is int32"),
        ("table", [1], TypeError, "table is a list; it must be a torch tensor"),
        ("net_t", np.zeros(9, np.float32), TypeError, "net_t is a ndarray"),
        ("net_t", torch.zeros(99), ValueError, "net_t has shape"),
        ("x0", torch.zeros(19, 3).T, ValueError, "x0 is not contiguous"),
        ("x0", torch.zeros(58)[1:].view(3, 19), ValueError, "x0 starts 4 bytes after"),
        ("mask", torch.zeros(3, 19), ValueError, "only mask is given"),
        ("guidance", torch.zeros(3, device="meta"), ValueError, "guidance is on meta"),
        ("history", (torch.zeros(3, 19),) * 4, ValueError, "at most 3"),
    ],
)
def test_tensors_that_the_kernels_cannot_take_are_refused(field, value, error, message, make_step):
    device = tensors_of(make_step(np.random.default_rng(6)))
    fields = {name: getattr(device, name) for name in device.__dataclass_fields__}
    with pytest.raises(error, match=message):
        StepBuffers(**(fields | {field: value}))


def test_cpu_tensors_are_refused_without_the_interpreter(make_step):
    device = tensors_of(make_step(np.random.default_rng(7)))
    with pytest.raises(ValueError, match="run on a CUDA device"):
        TritonStep(device)


def test_large_blocks_are_for_large_tensors_with_few_slots():
    assert choose_calls(16, 3072, 1) == 128
    assert choose_calls(64, 196_608, 1) == 256
    assert choose_calls(64, 196_608, 3) == 128
