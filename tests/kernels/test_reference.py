"""The reference against formulas written out here, in float64."""

import math

import numpy as np
import pytest

from revstep.kernels import columns as col
from revstep.kernels import noise, reference

CANONICAL = 0x7FC00000


def _one(make_step, D=24, **columns):
    """One slot at an active row with exactly these columns; the rest of it is zero."""
    options = {k: columns.pop(k) for k in ("dtype", "learned", "inpaint", "x0") if k in columns}
    buf = make_step(np.random.default_rng(3), B=1, D=D, history=3, **options)
    buf.counter[:], buf.uncond_row[:], buf.guidance[:] = 0, -1, 1
    row, after = buf.table[buf.base[0]], buf.table[buf.base[0] + 1]
    row[:] = 0
    row[[col.LO, col.HI, col.SLOT, col.ACTIVE]] = -np.inf, np.inf, -1, 1
    after[col.C_IN] = 1
    for name, value in columns.items():
        row[col.NAMES.index(name)] = value
    reference.begin_step(buf)
    return buf


def test_names_are_in_the_order_of_the_columns():
    assert len(col.NAMES) == col.COLUMNS == len(set(col.NAMES))
    for number, name in enumerate(col.NAMES[: col.ACTIVE + 1]):
        assert getattr(col, name.upper()) == number


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint16])
def test_step_equals_the_affine_formula_in_float64(make_step, copy_step, dtype):
    rng = np.random.default_rng(8)
    for _ in range(40):
        buf = make_step(rng, B=3, D=37, dtype=dtype, history=3, inpaint=True, x0=True)
        buf.counter[:] = 0
        reference.begin_step(buf)
        old = copy_step(buf)
        reference.fused_step(buf)
        for b in range(3):
            r = dict(zip(col.NAMES, old.table[old.current[b]].astype(float), strict=True))
            m = reference.float32_from_network(old.output[old.cond_row[b]]).astype(float)
            if old.uncond_row[b] >= 0:
                uncond = reference.float32_from_network(old.output[old.uncond_row[b]])
                g = 1 + r["w"] * (float(old.guidance[b]) - 1)
                m = uncond + g * (m - uncond)
            x = old.x[b].astype(float)
            z, z2 = (
                noise.normals(int(old.seed[b]), int(r["noise"]), s, 37).astype(float)
                for s in (0, 2)
            )
            q = [slot[b].astype(float) for slot in old.history]
            x0 = np.clip(r["p_x"] * x + r["p_m"] * m, r["lo"], r["hi"])
            want = r["c_x"] * x + r["c_m"] * m + r["c_0"] * x0 + r["s"] * z
            want = want + r["h_1"] * q[0] + r["h_2"] * q[1] + r["h_3"] * q[2]
            stored = r["k_x"] * x + r["k_m"] * m + r["k_0"] * x0
            stored = stored + r["kh_1"] * q[0] + r["kh_2"] * q[1] + r["kh_3"] * q[2]
            if r["known_alpha"] != 0 or r["known_sigma"] != 0:
                mask = old.mask[b].astype(float)
                noised = r["known_alpha"] * old.known[b] + r["known_sigma"] * z2
                want = mask * noised + (1 - mask) * want
            np.testing.assert_allclose(buf.x[b], want, rtol=1e-5, atol=2e-4)
            np.testing.assert_allclose(buf.x0[b], x0, rtol=1e-5, atol=2e-4)
            exact = reference.step_slot(old, b, np.float64)
            np.testing.assert_allclose(exact.x, want, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(exact.x0, x0, rtol=1e-12, atol=1e-12)
            for k in range(3):
                if k == r["store"]:
                    np.testing.assert_allclose(buf.history[k][b], stored, rtol=1e-5, atol=2e-4)
                    np.testing.assert_allclose(exact.q, stored, rtol=1e-12, atol=1e-12)
                else:
                    np.testing.assert_array_equal(buf.history[k][b], old.history[k][b])
            c_in = old.table[old.current[b] + 1, col.C_IN]
            scaled = reference.network_from_float32(c_in * buf.x[b], buf.net_x.dtype)
            for row in (old.cond_row[b], old.uncond_row[b]):
                if row >= 0:
                    np.testing.assert_array_equal(buf.net_x[row], scaled)


def test_rounding_is_one_a_operation_left_to_right(make_step):
    buf = _one(make_step, D=1, c_x=1.1, c_m=1.3, h_1=1.7)
    x, m, q = buf.x[0, 0], buf.output[buf.cond_row[0], 0], buf.history[0][0, 0]
    reference.fused_step(buf)

    def rounded(v):
        return float(np.float32(v))

    a, b, c = (rounded(float(np.float32(k)) * float(v)) for k, v in ((1.1, x), (1.3, m), (1.7, q)))
    assert buf.x[0, 0] == rounded(rounded(a + b) + c)


def test_zero_coefficients_read_nothing(make_step):
    buf = _one(make_step, c_0=0.5, p_m=2.0, store=1, k_x=0.0, kh_3=0.25)
    buf.x[:] = np.nan
    buf.history[0][:] = np.nan
    buf.history[1][:] = np.inf
    m, third = buf.output[buf.cond_row[0]].copy(), buf.history[2][0].copy()
    reference.fused_step(buf)
    np.testing.assert_array_equal(buf.x[0], np.float32(0.5) * (np.float32(2) * m))
    np.testing.assert_array_equal(buf.history[1][0], np.float32(0.25) * third)
    assert buf.flags[0] == 0


def test_unread_network_output_raises_no_flag(make_step):
    buf = _one(make_step, c_x=0.5, s=1.0)
    buf.output[:] = np.nan
    reference.fused_step(buf)
    assert np.isfinite(buf.x).all()
    assert buf.flags[0] == 0


def test_a_row_without_terms_gives_zero(make_step):
    buf = _one(make_step, store=0)
    reference.fused_step(buf)
    assert (buf.x == 0).all()
    assert (buf.history[0] == 0).all()


def test_history_is_read_before_it_is_replaced(make_step):
    buf = _one(make_step, h_1=1.0, k_x=1.0, kh_1=2.0, store=0)
    x, q = buf.x.copy(), buf.history[0].copy()
    reference.fused_step(buf)
    np.testing.assert_array_equal(buf.x, q)
    np.testing.assert_array_equal(buf.history[0], x + np.float32(2) * q)


def test_identity_row_touches_nothing(make_step, copy_step, arrays_of):
    buf = make_step(np.random.default_rng(4), B=4, inpaint=True, x0=True, learned=True)
    buf.counter[:] = buf.length
    buf.output[:] = np.nan
    reference.begin_step(buf)
    before = {name: array.copy() for name, array in arrays_of(buf).items()}
    reference.fused_step(buf)
    for name, array in arrays_of(buf).items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)


def test_begin_counts_to_the_identity_row_and_writes_times(make_step):
    buf = make_step(np.random.default_rng(5), B=3, two_times=True)
    buf.counter[:] = [0, 1, 2]
    for expected, after in (([0, 1, 2], [1, 2, 2]), ([1, 2, 2], [2, 2, 2])):
        reference.begin_step(buf)
        assert (buf.current - buf.base).tolist() == expected
        assert buf.counter.tolist() == after
        for b in range(3):
            for row in (buf.cond_row[b], buf.uncond_row[b]):
                if row >= 0:
                    assert buf.net_t[row] == buf.table[buf.current[b], col.TIME]
                    assert buf.net_t2[row] == buf.table[buf.current[b], col.TIME_2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_output_is_not_clipped_away(make_step, bad):
    buf = _one(make_step, x0=True, p_m=1.0, c_0=1.0, lo=-1.0, hi=1.0)
    buf.output[buf.cond_row[0], 5] = bad
    reference.fused_step(buf)
    for array in (buf.x[0], buf.x0[0], buf.net_x[buf.cond_row[0]]):
        assert array[5].view(np.uint32) == CANONICAL
        assert np.isfinite(np.delete(array, 5)).all()
    assert buf.flags[0] == 1


def test_guidance_that_cancels_reads_no_unconditional_row(make_step):
    buf = make_step(np.random.default_rng(6), B=1, D=8, history=0)
    row = buf.table[buf.base[0]]
    row[:] = 0
    row[[col.C_M, col.ACTIVE, col.SLOT]] = 1, 1, -1
    buf.uncond_row[0] = 1 - buf.cond_row[0]
    buf.counter[:] = 0
    for guidance, w in ((1.0, 1.0), (7.0, 0.0)):
        buf.guidance[0], row[col.W] = guidance, w
        buf.output[buf.uncond_row[0]] = np.nan
        buf.counter[:] = 0
        reference.begin_step(buf)
        reference.fused_step(buf)
        np.testing.assert_array_equal(buf.x[0], buf.output[buf.cond_row[0]])


def test_learned_variance_interpolates_the_log_variance(make_step):
    low, high = math.log(0.01), math.log(0.04)
    buf = _one(make_step, learned=True, s=1.0, log_beta=high, log_beta_tilde=low, noise=3)
    D, c = buf.elements, buf.cond_row[0]
    buf.output[c, D:] = np.linspace(-1, 1, D)
    z = noise.normals(int(buf.seed[0]), 3, noise.STREAM_STEP, D)
    reference.fused_step(buf)
    f = (np.linspace(-1, 1, D) + 1) / 2
    want = np.exp(0.5 * (f * high + (1 - f) * low)) * z
    np.testing.assert_allclose(buf.x[0], want, rtol=2e-6)
    assert want[0] == pytest.approx(0.1 * z[0])  # the ends are the two variances
    assert want[-1] == pytest.approx(0.2 * z[-1])


def test_non_finite_variance_marks_the_row_only_where_it_is_used(make_step):
    for s, flag in ((1.0, 1), (0.0, 0)):
        buf = _one(make_step, learned=True, c_x=1.0, s=s, log_beta=-2.0, log_beta_tilde=-3.0)
        buf.output[buf.cond_row[0], buf.elements + 4] = np.inf
        reference.fused_step(buf)
        assert buf.flags[0] == flag
        assert np.isnan(buf.x[0]).sum() == flag


def test_bfloat16_rounds_to_nearest_even():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    words = np.random.default_rng(7).integers(0, 1 << 32, 200_000, np.uint64).astype(np.uint32)
    ties = (words & np.uint32(0xFFFF0000)) | np.uint32(0x8000)
    values = np.concatenate([words, ties]).view(np.float32)
    values = values[~np.isnan(values)]
    with np.errstate(over="ignore"):
        want = values.astype(ml_dtypes.bfloat16)
    got = reference.network_from_float32(values, np.dtype(np.uint16))
    np.testing.assert_array_equal(got, want.view(np.uint16))
    np.testing.assert_array_equal(reference.float32_from_network(got), want.astype(np.float32))
    nan = np.array([np.nan, -np.nan], np.float32)
    assert (reference.network_from_float32(nan, np.dtype(np.uint16)) == 0x7FC0).all()
