"""StepBuffers refuses what the kernels can't take, and says why."""

import dataclasses

import numpy as np
import pytest

from revstep.kernels import StepBuffers
from revstep.kernels import columns as col


@pytest.fixture
def fields(make_step):
    buf = make_step(np.random.default_rng(0), B=3, D=10, history=2, inpaint=True, x0=True)
    buf.counter[:] = 0
    return {f.name: getattr(buf, f.name) for f in dataclasses.fields(buf)}


def _with(fields, name, value):
    return StepBuffers(**(fields | {name: value}))


def test_valid_buffers_know_their_sizes(fields):
    buf = StepBuffers(**fields)
    assert (buf.slots, buf.elements, buf.network_rows) == (3, 10, len(fields["net_x"]))


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("x", [[1.0]], TypeError, "x is a list; it must be a numpy array, or a torch"),
        ("table", [[1.0]], TypeError, "table is a list; it must be a numpy array"),
        ("net_x", np.zeros((0, 10), np.float32), ValueError, "1 <= N"),
        ("x", np.zeros((3, 10)), TypeError, "x is float64; it must be float32"),
        ("x", np.zeros((3, 10), np.float32)[:, ::-1], ValueError, "not C-contiguous"),
        ("x", np.zeros((3, 0), np.float32), ValueError, "1 <= D"),
        ("base", None, TypeError, "base is a NoneType; it must be a numpy array"),
        ("seed", np.zeros(3, np.int64), TypeError, "seed is int64; it must be uint64"),
        ("base", np.zeros(4, np.int32), ValueError, r"base has shape \[4\]; it must be \[3\]"),
        ("net_x", np.zeros((9, 10), np.int16), TypeError, "uint16 holds bfloat16"),
        ("output", np.zeros((9, 10), np.float16), TypeError, "output is float16"),
        ("learned_variance", True, ValueError, "output has shape"),
        ("mask", None, ValueError, "only known is given"),
        ("history", (np.zeros((3, 10), np.float32),) * 4, ValueError, "4 arrays; at most 3"),
        ("cond_row", np.array([0, 1, 99], np.int32), ValueError, "cond_row of slot 2 is 99"),
        ("uncond_row", np.array([-2, -1, -1], np.int32), ValueError, "uncond_row of slot 0"),
        ("length", np.array([2, 2, 99], np.int32), ValueError, "program of slot 2 is rows"),
        ("counter", np.array([0, 3, 0], np.int32), ValueError, "counter of slot 1 is 3"),
    ],
)
def test_wrong_argument_is_refused(fields, name, value, error, message):
    with pytest.raises(error, match=message):
        _with(fields, name, value)


def test_read_only_state_is_refused(fields):
    x = fields["x"].copy()
    x.setflags(write=False)
    with pytest.raises(ValueError, match="x is read-only"):
        _with(fields, "x", x)


def test_overlapping_arrays_are_refused(fields):
    with pytest.raises(ValueError, match="x and x0 share memory"):
        _with(fields, "x0", fields["x"])
    with pytest.raises(ValueError, match="x and history"):
        _with(fields, "history", (fields["x"],) * 2)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (col.STORE, 2, "stores into history 2; there are 2"),
        (col.STORE, 0.5, "stores into history 0.5"),
        (col.NOISE, col.NOISE_LIMIT, "noise index"),
        (col.NOISE, np.nan, "noise index"),
        (col.H_3, 0.1, "reads history 2"),
        (col.KH_3, 0.1, "reads history 2"),
    ],
)
def test_programs_that_the_buffers_cannot_run_are_refused(fields, column, value, message):
    buf = StepBuffers(**fields)
    buf.table[buf.base[1] + 1, column] = value
    with pytest.raises(ValueError, match=message):
        buf.check_rows()


def test_a_program_needs_its_identity_row(fields):
    buf = StepBuffers(**fields)
    buf.table[buf.base[0] + buf.length[0], col.ACTIVE] = 1
    with pytest.raises(ValueError, match="put identity_row"):
        buf.check_rows()


def test_two_unfinished_slots_may_not_feed_one_network_row(fields):
    buf = StepBuffers(**fields)
    buf.cond_row[1] = buf.cond_row[0]
    with pytest.raises(ValueError, match="is fed by two"):
        buf.check_rows()
    buf.counter[1] = buf.length[1]
    buf.cond_row[1] = buf.uncond_row[1] = -1  # a finished slot may give its rows back
    buf.check_rows()


def test_identity_row_changes_nothing_by_its_numbers():
    row = dict(zip(col.NAMES, col.identity_row(12.5, 0.5).tolist(), strict=True))
    kept = {"time": 12.5, "c_in": 0.5, "lo": -np.inf, "hi": np.inf, "c_x": 1.0, "store": -1.0}
    assert row == dict.fromkeys(col.NAMES, 0.0) | kept
