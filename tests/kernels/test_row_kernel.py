"""Rows over a caller's arrays: the reference's bits, next to buffers that stay as they are."""

import numpy as np
import pytest

from revstep.kernels import columns as col
from revstep.kernels import reference
from revstep.kernels.dispatch import backend
from revstep.kernels.reference import network_from_float32
from revstep.kernels.row_kernel import RowKernel

pytestmark = pytest.mark.skipif(backend() != "native", reason="built without native kernels")


def address(array):
    return 0 if array is None else array.ctypes.data


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16])
@pytest.mark.parametrize("D", [1, 19, 1024, 2057])
def test_a_row_is_the_references(dtype, D, make_step):
    rng = np.random.default_rng([D, np.dtype(dtype).itemsize])
    for _ in range(12):
        buf = make_step(rng, B=1, D=D, dtype=dtype, history=3, x0=True, bad=True)
        buf.table[:, col.S] = 0.0  # the reference makes noise of its own
        buf.table[:, col.C_IN] = 1.0
        buf.uncond_row[:] = -1
        row = int(buf.base[0])
        output = np.ascontiguousarray(buf.output[buf.cond_row[0]][None])
        state = buf.x.copy()
        history = [q.copy() for q in buf.history]
        kernel = RowKernel(buf.table, history, D, dtype)
        to = np.empty((1, D), dtype)
        copy, x0 = np.empty((2, 1, D), np.float32)
        met = kernel.run(row, *map(address, (state, output, to, copy, None, x0)))

        buf.counter[:] = 0
        reference.begin_step(buf)
        assert reference.fused_step(buf) == met
        want = buf.x if dtype == np.float32 else network_from_float32(buf.x, np.dtype(dtype))
        for got, wanted in ((to, want), (copy, buf.x), (x0, buf.x0)):
            same_bits(got, wanted)
        for got, wanted in zip(history, buf.history, strict=True):
            same_bits(got, wanted)


def same_bits(got, want):
    nan = (got != got) & (want != want)
    bits = f"u{got.dtype.itemsize}"
    assert ((got.view(bits) == want.view(bits)) | nan).all()


def active(**columns):
    row = col.identity_row(0.0, 1.0)
    row[col.ACTIVE] = 1.0
    for name, value in columns.items():
        row[getattr(col, name)] = value
    return np.stack([row, col.identity_row(0.0, 1.0)])


def test_given_noise_is_the_rows_own():
    state, z = np.random.default_rng(0).standard_normal((2, 1, 50)).astype(np.float32)
    to = np.empty_like(state)
    kernel = RowKernel(active(C_X=0.5, S=2.0), [], 50, np.float32)
    kernel.run(0, address(state), address(state), address(to), 0, address(z), 0)
    assert (to == np.float32(0.5) * state + np.float32(2.0) * z).all()


def test_a_row_that_can_not_run_is_refused():
    arrays = [np.zeros((1, 4), np.float32) for _ in range(3)]
    state, to = np.zeros((2, 1, 4), np.float32)
    places = (address(state), address(state), address(to), 0)
    for table, message in (
        (active(S=1.0), "draws noise; none was given"),
        (active(STORE=1.0), "history"),
    ):
        with pytest.raises(ValueError, match=message):
            RowKernel(table, arrays[:1], 4, np.float32).run(0, *places, 0, 0)
    for column in ({"H_3": 1.0}, {"KH_3": 1.0, "STORE": 0.0}, {"STORE": 2.0}):
        noisy = RowKernel(active(S=1.0, **column), arrays, 4, np.float32)
        with pytest.raises(ValueError, match="place of the third history"):
            noisy.run(0, *places, address(state), 0)
    with pytest.raises(ValueError, match="inactive"):
        noisy.run(1, *places, 0, 0)
    with pytest.raises(ValueError, match="current of slot 0 is 7"):
        noisy.run(7, *places, 0, 0)
