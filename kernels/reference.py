"""The specification of the step in numpy: what every other kernel must equal, bit for bit.

With r the slot's table row (`revstep.kernels.columns`), each line in float32, every operation
rounded once, sums taken left to right:

    m  = uncond + g_eff (cond - uncond)              g_eff = 1 + w (g - 1)
    x0 = clip(p_x x + p_m m, lo, hi)
    x' = c_x x + c_m m + c_0 x0 + h_1 q_1 + h_2 q_2 + h_3 q_3 + s z
    q  = k_x x + k_m m + k_0 x0 + kh_1 q_1 + kh_2 q_2 + kh_3 q_3   (the old q), into STORE
    x' = mask (a y + b z2) + (1 - mask) x'           inpainting, where a or b is not 0
    network's next input = c_in(next row) x'

A term whose coefficient is exactly 0 is neither read nor added; a row with ACTIVE 0 touches
nothing. m is read iff p_m, c_m or k_m is not 0; m = cond without an unconditional row or with
g_eff = 1. Where m is not finite, x' and the x0 written out are the NaN 0x7fc00000 (in the
network's input the same NaN, 0x7e00 in float16, 0x7fc0 in bfloat16) and the slot's flag is set;
q and the clip inside x' and q are plain arithmetic, and other NaNs have unspecified bits.

With learned variance (and s not 0) z's coefficient is s exp(L / 2), L = f (log_beta -
log_beta_tilde) + log_beta_tilde, f = (v + 1) / 2, v the variance half of the conditional row; a
non-finite v counts as a non-finite m.

References:
    Ho and Salimans, "Classifier-free diffusion guidance", 2022, eq. 6: g_eff.
    Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", 2021, eq. 15.
    Lugmayr et al., "RePaint", 2022, eq. 8: inpainting.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.kernels import columns as col
from revstep.kernels import noise
from revstep.kernels.buffers import StepBuffers


class SlotResult(NamedTuple):
    """What one slot's step gives; each array is [D] in the arithmetic's dtype.

    Attributes:
        x: The next state x'.
        x0: The denoised estimate, or None if nothing needs it.
        q: The value to store, or None.
        finite: bool [D], False where m (or the variance) is not finite.
    """

    x: NDArray[Any]
    x0: NDArray[Any] | None
    q: NDArray[Any] | None
    finite: NDArray[np.bool_]


def float32_from_network(values: NDArray[Any]) -> NDArray[np.float32]:
    """The network's float32, float16 or bfloat16 (as uint16) values as float32, exactly."""
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32)


def network_from_float32(values: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Float32 values in the network's dtype, rounded to nearest even; uint16 is bfloat16."""
    if dtype != np.uint16:
        return values.astype(dtype)
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16)


def normal_fill(
    out: NDArray[np.float32],
    seed: NDArray[np.uint64],
    index: ArrayLike,
    stream: int,
) -> None:
    """Fill `out` with standard normals.

    Args:
        out: float32 [B, D], written.
        seed: uint64 [B].
        index: Noise index, one int or int32 [B].
        stream: `noise.STREAM_STEP`, `STREAM_INITIAL` or `STREAM_KNOWN`.
    """
    B, D = out.shape
    for b, n in enumerate(np.broadcast_to(index, (B,))):
        out[b] = noise.normals(int(seed[b]), int(n), stream, D)


def begin_step(buf: StepBuffers) -> None:
    """Choose each slot's table row, write the network's times, and count the step."""
    for b in range(buf.slots):
        step = min(int(buf.counter[b]), int(buf.length[b]))
        row = int(buf.base[b]) + step
        if not 0 <= row < buf.table.shape[0]:
            raise ValueError(f"slot {b} is at table row {row}; the table has {len(buf.table)} rows")
        _check_network_rows(buf, b, lowest=-1)
        buf.current[b] = row
        buf.counter[b] = min(step + 1, int(buf.length[b]))
        for network_row in (buf.cond_row[b], buf.uncond_row[b]):
            if network_row >= 0:
                buf.net_t[network_row] = buf.table[row, col.TIME]
                if buf.net_t2 is not None:
                    buf.net_t2[network_row] = buf.table[row, col.TIME_2]


def fused_step(buf: StepBuffers) -> bool:
    """Run the current row of every slot, in place.

    Returns:
        Whether any met a non-finite output.

    Raises:
        ValueError: A row, history or network row is out of range; nothing was written then.
    """
    active = [b for b in range(buf.slots) if _is_active(buf, b)]
    met = False
    for b in active:
        result = step_slot(buf, b)
        _write(buf, b, result)
        met = met or not result.finite.all()
    return met


def step_slot(
    buf: StepBuffers, b: int, dtype: type[np.float32] | type[np.float64] = np.float32
) -> SlotResult:
    """Compute the current row of slot `b` and write nothing.

    Args:
        buf: The arrays.
        b: The slot; its row is active.
        dtype: np.float32 for the specified bits; np.float64 for proofs, which takes the same
            float32 inputs, coefficients and noise and rounds nothing else to float32.

    Returns:
        The slot's x', x0, q and where m is finite.
    """
    row = buf.table[buf.current[b]]
    r = row.astype(dtype)
    D = buf.elements
    x = buf.x[b].astype(dtype)
    history = [q[b] for q in buf.history]
    finite = np.ones(D, bool)
    with np.errstate(all="ignore"):
        m = None
        if r[col.P_M] != 0 or r[col.C_M] != 0 or r[col.K_M] != 0:
            m = _guided(buf, b, r[col.W], dtype)
            finite &= np.isfinite(m)

        x0 = None
        if r[col.C_0] != 0 or r[col.K_0] != 0 or buf.x0 is not None:
            x0 = _sum(D, dtype, [(r[col.P_X], x), (r[col.P_M], m)])
            x0 = np.where(x0 < r[col.LO], r[col.LO], x0)  # a NaN passes both comparisons
            x0 = np.where(x0 > r[col.HI], r[col.HI], x0)

        z, scale = None, r[col.S]
        if r[col.S] != 0:
            z = _noise(buf, b, noise.STREAM_STEP)
            if buf.learned_variance:
                v = float32_from_network(buf.output[buf.cond_row[b], D:]).astype(dtype)
                finite &= np.isfinite(v)
                scale = r[col.S] * _deviation(v, r)

        old = [(r[col.H_1 + k], q_k) for k, q_k in enumerate(history)]
        terms = [(r[col.C_X], x), (r[col.C_M], m), (r[col.C_0], x0), *old, (scale, z)]
        x_next = _sum(D, dtype, terms)

        q = None
        if r[col.STORE] >= 0:
            old = [(r[col.KH_1 + k], q_k) for k, q_k in enumerate(history)]
            q = _sum(D, dtype, [(r[col.K_X], x), (r[col.K_M], m), (r[col.K_0], x0), *old])

        alpha, sigma = r[col.KNOWN_ALPHA], r[col.KNOWN_SIGMA]
        if buf.mask is not None and buf.known is not None and (alpha != 0 or sigma != 0):
            z2 = _noise(buf, b, noise.STREAM_KNOWN) if sigma != 0 else None
            noised = _sum(D, dtype, [(alpha, buf.known[b]), (sigma, z2)])
            mask = buf.mask[b].astype(dtype)
            x_next = mask * noised + (dtype(1) - mask) * x_next

    x_next = np.where(finite, x_next, dtype(np.nan))
    return SlotResult(x_next, x0, q, finite)


def _guided(buf: StepBuffers, b: int, w: Any, dtype: Any) -> NDArray[Any]:
    g_eff = dtype(1) + w * (dtype(buf.guidance[b]) - dtype(1))
    D, uncond_row = buf.elements, buf.uncond_row[b]
    cond = float32_from_network(buf.output[buf.cond_row[b], :D]).astype(dtype)
    if uncond_row < 0 or g_eff == 1:
        return cond
    uncond = float32_from_network(buf.output[uncond_row, :D]).astype(dtype)
    return np.asarray(uncond + g_eff * (cond - uncond))


def _deviation(v: NDArray[Any], r: NDArray[Any]) -> NDArray[Any]:
    """Standard deviation between the two ends, interpolated in the log of the variance."""
    one, half = r.dtype.type(1), r.dtype.type(0.5)
    tilde = r[col.LOG_BETA_TILDE]
    fraction = (v + one) * half
    log_variance = fraction * (r[col.LOG_BETA] - tilde) + tilde
    halved = half * log_variance
    return noise.exp(halved) if r.dtype == np.float32 else np.exp(np.clip(halved, -87, 88))


def _sum(D: int, dtype: Any, terms: list[tuple[Any, NDArray[Any] | None]]) -> NDArray[Any]:
    """Sum of coefficient times array, left to right, without the zero coefficients."""
    total: NDArray[Any] | None = None
    for coefficient, array in terms:
        if np.ndim(coefficient) == 0 and coefficient == 0:
            continue
        assert array is not None
        term = coefficient * array.astype(dtype)
        total = term if total is None else total + term
    return np.zeros(D, dtype) if total is None else total


def _noise(buf: StepBuffers, b: int, stream: int) -> NDArray[np.float32]:
    index = int(buf.table[buf.current[b], col.NOISE])
    return noise.normals(int(buf.seed[b]), index, stream, buf.elements)


def _write(buf: StepBuffers, b: int, result: SlotResult) -> None:
    row, next_row = buf.table[buf.current[b]], buf.table[buf.current[b] + 1]
    bad = ~result.finite
    canonical = np.uint32(0x7FC00000)
    buf.x[b] = result.x
    buf.x[b].view(np.uint32)[bad] = canonical
    if buf.x0 is not None:
        buf.x0[b] = result.x0
        buf.x0[b].view(np.uint32)[bad] = canonical
    if result.q is not None:
        buf.history[int(row[col.STORE])][b] = result.q
    if bad.any():
        buf.flags[b] = 1
    with np.errstate(all="ignore"):
        c_in = next_row[col.C_IN]
        scaled = buf.x[b] if c_in == 1 else c_in * buf.x[b]
        scaled.view(np.uint32)[bad] = canonical
        for network_row in (buf.cond_row[b], buf.uncond_row[b]):
            if network_row >= 0:
                buf.net_x[network_row] = network_from_float32(scaled, buf.net_x.dtype)


def _is_active(buf: StepBuffers, b: int) -> bool:
    """Whether slot b has work; refuses what would leave memory."""
    current, R = int(buf.current[b]), buf.table.shape[0]
    if not 0 <= current < R:
        raise ValueError(f"current[{b}] is {current}; the table has {R} rows")
    row = buf.table[current]
    if row[col.ACTIVE] == 0:
        return False
    if current + 1 >= R:
        raise ValueError(f"slot {b} runs table row {current}, the last one, which must be inactive")
    count = len(buf.history)
    if not -1 <= row[col.STORE] < count:
        raise ValueError(f"table row {current} stores into history {row[col.STORE]:g} of {count}")
    if not 0 <= row[col.NOISE] < col.NOISE_LIMIT:
        raise ValueError(f"table row {current} has noise index {row[col.NOISE]:g}")
    for k in range(count, 3):
        if row[col.H_1 + k] != 0 or row[col.KH_1 + k] != 0:
            raise ValueError(f"table row {current} reads history {k} of {count}")
    _check_network_rows(buf, b, lowest=0)
    return True


def _check_network_rows(buf: StepBuffers, b: int, *, lowest: int) -> None:
    N, cond, uncond = buf.network_rows, buf.cond_row[b], buf.uncond_row[b]
    if not (lowest <= cond < N and -1 <= uncond < N):
        raise ValueError(f"slot {b} feeds network rows {cond}, {uncond} of {N}")
