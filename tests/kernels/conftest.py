"""Random buffers for the kernel tests, and a comparison by bits."""

import dataclasses

import numpy as np
import pytest

from revstep.kernels import StepBuffers
from revstep.kernels import columns as col
from revstep.kernels.reference import network_from_float32

STEPS = 2  # active rows of each random program


def _random_row(rng, history):
    row = np.zeros(col.COLUMNS, np.float32)
    row[col.TIME] = rng.uniform(0, 1000)
    row[col.C_IN] = rng.choice([1.0, rng.uniform(0.1, 2)])
    for c in (col.P_X, col.P_M, col.C_X, col.C_M, col.C_0, col.K_X, col.K_M, col.K_0, col.S):
        row[c] = rng.choice([0.0, 1.0, rng.normal()], p=[0.3, 0.1, 0.6])
    for k in range(history):
        row[col.H_1 + k] = rng.choice([0.0, rng.normal()])
        row[col.KH_1 + k] = rng.choice([0.0, rng.normal()])
    row[col.LO], row[col.HI] = (-0.5, 0.7) if rng.random() < 0.5 else (-np.inf, np.inf)
    row[col.W] = rng.choice([0.0, 1.0, 0.6])
    row[col.SLOT] = rng.integers(-1, history) if history else -1
    row[col.NOISE] = rng.choice([0, 7, col.NOISE_LIMIT - 1])
    row[col.LOG_BETA_TILDE] = rng.uniform(-12, -6)
    row[col.LOG_BETA] = row[col.LOG_BETA_TILDE] + rng.uniform(0, 3)
    row[col.KNOWN_ALPHA] = rng.choice([0.0, rng.normal()])
    row[col.KNOWN_SIGMA] = rng.choice([0.0, rng.normal()])
    row[col.ACTIVE] = 1
    return row


def make_step(
    rng,
    *,
    B=3,
    D=19,
    dtype=np.float32,
    history=3,
    learned=False,
    inpaint=False,
    x0=False,
    bad=False,
    two_times=False,
):
    """Random buffers: own program, counter, seed, guidance and network rows for every slot."""
    dtype = np.dtype(dtype)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    def network(*shape):
        return network_from_float32(normal(*shape), dtype)

    table = np.zeros((B * (STEPS + 1), col.COLUMNS), np.float32)
    for r in range(len(table)):
        table[r] = _random_row(rng, history)
        if r % (STEPS + 1) == STEPS:
            table[r] = col.identity_row(table[r, col.TIME], table[r, col.C_IN])
    if two_times:
        table[:, col.TIME_2] = rng.uniform(-1, 1000, len(table))
    halves = rng.random(B) < 0.6
    N = B + int(halves.sum()) + 1  # one network row that no slot uses
    rows = rng.permutation(N).astype(np.int32)
    uncond = np.full(B, -1, np.int32)
    uncond[halves] = rows[B : B + halves.sum()]
    output = network(N, 2 * D if learned else D)
    if bad:
        values = np.array([np.nan, np.inf, -np.inf], np.float32)
        hit = rng.random(output.shape) < 0.1
        picked = rng.choice(values, size=int(hit.sum()))
        output[hit] = network_from_float32(picked, dtype)
    return StepBuffers(
        table=table,
        base=(rng.permutation(B) * (STEPS + 1)).astype(np.int32),
        length=np.full(B, STEPS, np.int32),
        counter=rng.integers(0, STEPS + 1, B).astype(np.int32),
        current=np.zeros(B, np.int32),
        seed=rng.integers(0, 1 << 64, B, np.uint64),
        guidance=rng.choice([1.0, 1.5, 7.0], B).astype(np.float32),
        cond_row=rows[:B].copy(),
        uncond_row=uncond,
        x=normal(B, D),
        output=output,
        net_x=network(N, D),
        net_t=normal(N),
        flags=np.zeros(B, np.int32),
        history=tuple(normal(B, D) for _ in range(history)),
        x0=normal(B, D) if x0 else None,
        mask=rng.choice([0.0, 0.25, 1.0], (B, D)).astype(np.float32) if inpaint else None,
        known=normal(B, D) if inpaint else None,
        net_t2=normal(N) if two_times else None,
        learned_variance=learned,
    )


def copy_step(buf):
    """The same buffers in own memory."""

    def own(value):
        if isinstance(value, np.ndarray):
            return value.copy()
        return tuple(v.copy() for v in value) if isinstance(value, tuple) else value

    fields = {f.name: own(getattr(buf, f.name)) for f in dataclasses.fields(buf)}
    return StepBuffers(**fields)


def arrays_of(buf):
    """Every array of the buffers by name."""
    return dict(buf.arrays())


def _is_nan(array):
    if array.dtype == np.uint16:  # bfloat16
        return (array & 0x7FFF) > 0x7F80
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, bool)


def assert_same_bits(got, want):
    """Equal bits everywhere, except that NaN equals NaN (a NaN's bits have their own test)."""
    wanted = arrays_of(want)
    for name, a in arrays_of(got).items():
        b = wanted[name]
        bits = f"u{a.dtype.itemsize}"
        same = a.view(bits) == b.view(bits)
        wrong = np.argwhere(~(same | (_is_nan(a) & _is_nan(b))))
        assert wrong.size == 0, f"{name} differs at {wrong[:3].tolist()} of {len(wrong)}"


@pytest.fixture(name="make_step")
def _make_step():
    return make_step


@pytest.fixture(name="copy_step")
def _copy_step():
    return copy_step


@pytest.fixture(name="arrays_of")
def _arrays_of():
    return arrays_of


@pytest.fixture(name="assert_same_bits")
def _assert_same_bits():
    return assert_same_bits
