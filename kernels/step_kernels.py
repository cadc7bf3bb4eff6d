"""The step in Triton: the GPU's kernels, with the bits of `revstep.kernels.reference`.

Every number that changes between steps is read from memory; what is fixed for given buffers
(dtype, history slots, variants) is a compile-time constant. Rules that keep the bits:

- launch and compile with enable_fp_fusion=False; no tl.fma, `tl.sqrt_rn` instead of `tl.sqrt`;
- a sum starts at -0, the neutral element of addition, and its absent terms are skipped by
  branches on coefficients, which are uniform over a block; loads have the same condition;
- comparisons and selects instead of min and max, which drop NaN.

One Philox call makes the four neighbouring elements of one thread: a 16-byte access of float32.
The table is read as 64-bit pairs of columns, half the loads. Neither shared memory nor barriers.

This file holds jitted functions only, and no library function of Triton: so a test may load it
under Triton's interpreter beside the compiled one. No postponed annotations here: Triton reads
them.
"""

import triton
import triton.language as tl

_SMALL_ARRAYS = ["base", "length", "counter", "current", "seed", "guidance", "cond_row"]
_SMALL_ARRAYS += ["uncond_row", "flags", "net_t", "index_of"]  # their alignment may vary


@triton.jit
def _first(pair):
    return pair.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _second(pair):
    return (pair >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def _quads(v0, v1, v2, v3):
    """[calls, 4] from four columns, which stay in their threads."""
    v = tl.join(tl.join(v0, v2), tl.join(v1, v3))
    return tl.reshape(v, (v.shape[0], 4))


@triton.jit
def _columns(v):
    v02, v13 = tl.split(tl.reshape(v, (v.shape[0], 2, 2)))
    v0, v2 = tl.split(v02)
    v1, v3 = tl.split(v13)
    return v0, v1, v2, v3


@triton.jit
def _load(place, calls, limit, ALIGNED: tl.constexpr):
    """[calls, 4] elements of the sample at `place`, 0 from the element `limit` on."""
    if ALIGNED:
        offset = calls[:, None] * 4 + tl.arange(0, 4)[None, :]
        v = tl.load(place + offset, mask=offset < limit, other=0.0)
    else:
        e = calls * 4
        v0 = tl.load(place + e, mask=e < limit, other=0.0)
        v1 = tl.load(place + (e + 1), mask=e + 1 < limit, other=0.0)
        v2 = tl.load(place + (e + 2), mask=e + 2 < limit, other=0.0)
        v3 = tl.load(place + (e + 3), mask=e + 3 < limit, other=0.0)
        v = _quads(v0, v1, v2, v3)
    return v


@triton.jit
def _store(place, v, calls, limit, ALIGNED: tl.constexpr):
    if ALIGNED:
        offset = calls[:, None] * 4 + tl.arange(0, 4)[None, :]
        tl.store(place + offset, v, mask=offset < limit)
    else:
        e = calls * 4
        v0, v1, v2, v3 = _columns(v)
        tl.store(place + e, v0, mask=e < limit)
        tl.store(place + (e + 1), v1, mask=e + 1 < limit)
        tl.store(place + (e + 2), v2, mask=e + 2 < limit)
        tl.store(place + (e + 3), v3, mask=e + 3 < limit)


@triton.jit
def _box_muller(a, b):
    u = a.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    bits = u.to(tl.int32, bitcast=True)
    kb = (bits - 0x3F3504F3) & -0x800000
    t = (bits - kb).to(tl.float32, bitcast=True) - 1.0
    p = t * -0.1744471788406372 + 0.28733688592910767
    p = p * t + -0.2990453243255615
    p = p * t + 0.33124786615371704
    p = p * t + -0.39913666248321533
    p = p * t + 0.5000414848327637
    p = p * t + -0.6666837334632874
    p = p * t + 0.9999997615814209
    p = p * t + -2.0
    r = tl.sqrt_rn(kb.to(tl.float32) * -1.6525916635146132e-07 + p * t)
    y = (b << 1).to(tl.int32, bitcast=True).to(tl.float32) * 4.656612873077393e-10
    q = y * y
    s = q * 0.00015148513193707913 + -0.004673766437917948
    s = s * q + 0.07968968152999878
    s = s * q + -0.645963728427887
    s = (s * q + 1.5707963705062866) * y
    c = q * 0.0008581906440667808 + -0.020810628309845924
    c = c * q + 0.2536507546901703
    c = c * q + -1.2336982488632202
    c = c * q + 0.9999999403953552
    c = (c.to(tl.uint32, bitcast=True) ^ (b & 0x80000000)).to(tl.float32, bitcast=True)
    return r * c, r * s


@triton.jit
def _normals(seed, calls, index, stream):
    """[calls, 4] normals; seed int64, index and stream uint32 scalars."""
    k0 = seed.to(tl.uint32)
    k1 = (seed >> 32).to(tl.uint32)
    c0 = calls.to(tl.uint32)
    c1 = index
    c2 = stream
    c3 = index * 0
    for _ in tl.static_range(10):
        high0 = tl.umulhi(c0, 0xD2511F53)
        low0 = c0 * 0xD2511F53
        high1 = tl.umulhi(c2, 0xCD9E8D57)
        low1 = c2 * 0xCD9E8D57
        c0 = high1 ^ c1 ^ k0
        c2 = high0 ^ c3 ^ k1
        c1 = low1
        c3 = low0
        k0 = k0 + 0x9E3779B9
        k1 = k1 + 0xBB67AE85
    z0, z1 = _box_muller(c0, c1)
    z2, z3 = _box_muller(c2, c3)
    return _quads(z0, z1, z2, z3)


@triton.jit
def _exp(h):
    h = tl.where(h < -87.0, -87.0, h)
    h = tl.where(h > 88.0, 88.0, h)
    shifted = h * 1.4426950216293335 + 12582912.0
    n = shifted - 12582912.0
    r = (h - n * 0.693145751953125) - n * 1.428606765330187e-06
    power = ((shifted.to(tl.int32, bitcast=True) << 23) + 0x3F800000).to(tl.float32, bitcast=True)
    p = r * 0.0013814581325277686 + 0.008368725888431072
    p = p * r + 0.04166838899254799
    p = p * r + 0.1666652113199234
    p = p * r + 0.4999999403953552
    p = p * r + 1.0
    p = p * r + 1.0
    return p * power


@triton.jit
def _start(has_terms, CALLS: tl.constexpr):
    """-0 in every element, or 0 for a sum without terms."""
    zero = tl.where(has_terms, -0x80000000, 0).to(tl.int32).to(tl.float32, bitcast=True)
    return tl.broadcast_to(zero, CALLS, 4)


@triton.jit
def _not_finite(v):
    return (v.to(tl.int32, bitcast=True) & 0x7FFFFFFF) >= 0x7F800000


@triton.jit
def _canonical(v, bad):
    """Float32 `v`, or the NaN 0x7fc00000 where `bad`."""
    return tl.where(bad, 0x7FC00000, v.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)


@triton.jit
def _network_value(v, bad, like):
    """`v` in the network's dtype (that of pointer `like`), with its canonical NaN where `bad`."""
    dtype: tl.constexpr = like.dtype.element_ty
    if dtype == tl.float32:
        out = _canonical(v, bad)
    else:
        nan: tl.constexpr = 0x7E00 if dtype == tl.float16 else 0x7FC0
        bits = v.to(dtype).to(tl.int16, bitcast=True)
        out = tl.where(bad, nan, bits).to(tl.int16).to(dtype, bitcast=True)
    return out


@triton.jit(do_not_specialize=["slots"], do_not_specialize_on_alignment=_SMALL_ARRAYS)
def begin_step_kernel(
    table,  # int64 pairs of float32
    base,
    length,
    counter,
    current,
    cond_row,
    uncond_row,
    net_t,
    slots,
    SLOTS: tl.constexpr,
):
    """`reference.begin_step`; one thread a slot."""
    b = tl.program_id(0) * SLOTS + tl.arange(0, SLOTS)
    inside = b < slots
    steps = tl.load(length + b, mask=inside, other=0)
    step = tl.minimum(tl.load(counter + b, mask=inside, other=0), steps)
    row = tl.load(base + b, mask=inside, other=0) + step
    tl.store(current + b, row, mask=inside)
    tl.store(counter + b, tl.minimum(step + 1, steps), mask=inside)
    time = _first(tl.load(table + row.to(tl.int64) * 16, mask=inside, other=0))
    cond = tl.load(cond_row + b, mask=inside, other=-1)
    uncond = tl.load(uncond_row + b, mask=inside, other=-1)
    tl.store(net_t + cond, time, mask=cond >= 0)
    tl.store(net_t + uncond, time, mask=uncond >= 0)


@triton.jit(do_not_specialize=["size"], do_not_specialize_on_alignment=_SMALL_ARRAYS)
def fused_step_kernel(
    table,  # int64 pairs of float32: pair k holds columns 2 k and 2 k + 1
    current,
    seed,
    guidance,
    cond_row,
    uncond_row,
    flags,
    x,
    output,
    net_x,
    q1,
    q2,
    q3,
    x0_out,
    mask,
    known,
    size,  # D / 4 where ALIGNED, else D
    ALIGNED: tl.constexpr,  # D is a multiple of 4
    HISTORY: tl.constexpr,  # history slots, 0..3
    X0: tl.constexpr,  # x0 is written out
    INPAINT: tl.constexpr,
    LEARNED: tl.constexpr,
    CALLS: tl.constexpr,  # Philox calls of a block: it does 4 CALLS elements
):
    """`reference.fused_step`; grid (blocks of a sample, slots)."""
    slot = tl.program_id(1)
    row = table + tl.load(current + slot).to(tl.int64) * 16
    if _first(tl.load(row + 13)) == 0.0:  # the identity row
        return
    c_in = _second(tl.load(row + 16))  # of the next row
    pair = tl.load(row + 1)
    p_x, p_m = _first(pair), _second(pair)
    pair = tl.load(row + 3)
    c_x, c_m = _first(pair), _second(pair)
    pair = tl.load(row + 4)
    c_0, h_1 = _first(pair), _second(pair)
    pair = tl.load(row + 6)
    s, w = _first(pair), _second(pair)
    pair = tl.load(row + 7)
    k_x, k_m = _first(pair), _second(pair)
    pair = tl.load(row + 8)
    k_0, kh_1 = _first(pair), _second(pair)
    pair = tl.load(row + 10)
    into, noise = _first(pair), _second(pair)
    index = noise.to(tl.int32).to(tl.uint32)
    stores = into >= 0.0

    if ALIGNED:
        D = size * 4
    else:
        D = size
    calls = tl.program_id(0) * CALLS + tl.arange(0, CALLS)
    start = slot.to(tl.int64) * D
    cond = tl.load(cond_row + slot)
    uncond = tl.load(uncond_row + slot)
    cond_start = cond.to(tl.int64) * D
    uncond_start = uncond.to(tl.int64) * D

    # what the row reads, all loads first
    need_x0 = (c_0 != 0.0) | (k_0 != 0.0) | X0
    need_m = (p_m != 0.0) | (c_m != 0.0) | (k_m != 0.0)
    need_x = (c_x != 0.0) | (k_x != 0.0) | (p_x != 0.0)
    g_eff = 1.0 + w * (tl.load(guidance + slot) - 1.0)
    guided = need_m & (uncond >= 0) & (g_eff != 1.0)
    width: tl.constexpr = 2 if LEARNED else 1
    m_place = output + cond_start * width
    x_old = _load(x + start, calls, tl.where(need_x, D, 0), ALIGNED)
    m = _load(m_place, calls, tl.where(need_m, D, 0), ALIGNED).to(tl.float32)
    if guided:
        u_place = output + uncond_start * width
        u = _load(u_place, calls, D, ALIGNED).to(tl.float32)
        m = u + g_eff * (m - u)
    bad = _not_finite(m)
    if LEARNED:
        v = _load(m_place + D, calls, tl.where(s != 0.0, D, 0), ALIGNED).to(tl.float32)
        bad = bad | _not_finite(v)
    if HISTORY >= 1:
        need = (h_1 != 0.0) | (kh_1 != 0.0)
        old_1 = _load(q1 + start, calls, tl.where(need, D, 0), ALIGNED)
    if HISTORY >= 2:
        pair = tl.load(row + 5)
        h_2, h_3 = _first(pair), _second(pair)
        pair = tl.load(row + 9)
        kh_2, kh_3 = _first(pair), _second(pair)
        need = (h_2 != 0.0) | (kh_2 != 0.0)
        old_2 = _load(q2 + start, calls, tl.where(need, D, 0), ALIGNED)
    if HISTORY >= 3:
        need = (h_3 != 0.0) | (kh_3 != 0.0)
        old_3 = _load(q3 + start, calls, tl.where(need, D, 0), ALIGNED)

    x0 = _start((p_x != 0.0) | (p_m != 0.0), CALLS)
    if need_x0:
        if p_x != 0.0:
            x0 = x0 + p_x * x_old
        if p_m != 0.0:
            x0 = x0 + p_m * m
        pair = tl.load(row + 2)
        lo, hi = _first(pair), _second(pair)
        x0 = tl.where(x0 < lo, lo, x0)
        x0 = tl.where(x0 > hi, hi, x0)
    if X0:
        _store(x0_out + start, _canonical(x0, bad), calls, D, ALIGNED)

    has_terms = (c_x != 0.0) | (c_m != 0.0) | (c_0 != 0.0) | (s != 0.0)
    if HISTORY >= 1:
        has_terms = has_terms | (h_1 != 0.0)
    if HISTORY >= 2:
        has_terms = has_terms | (h_2 != 0.0)
    if HISTORY >= 3:
        has_terms = has_terms | (h_3 != 0.0)
    x_next = _start(has_terms, CALLS)
    if c_x != 0.0:
        x_next = x_next + c_x * x_old
    if c_m != 0.0:
        x_next = x_next + c_m * m
    if c_0 != 0.0:
        x_next = x_next + c_0 * x0
    if HISTORY >= 1:
        if h_1 != 0.0:
            x_next = x_next + h_1 * old_1
    if HISTORY >= 2:
        if h_2 != 0.0:
            x_next = x_next + h_2 * old_2
    if HISTORY >= 3:
        if h_3 != 0.0:
            x_next = x_next + h_3 * old_3

    if HISTORY >= 1:
        if stores:
            has_terms = (k_x != 0.0) | (k_m != 0.0) | (k_0 != 0.0) | (kh_1 != 0.0)
            if HISTORY >= 2:
                has_terms = has_terms | (kh_2 != 0.0)
            if HISTORY >= 3:
                has_terms = has_terms | (kh_3 != 0.0)
            q = _start(has_terms, CALLS)
            if k_x != 0.0:
                q = q + k_x * x_old
            if k_m != 0.0:
                q = q + k_m * m
            if k_0 != 0.0:
                q = q + k_0 * x0
            if kh_1 != 0.0:
                q = q + kh_1 * old_1
            if HISTORY >= 2:
                if kh_2 != 0.0:
                    q = q + kh_2 * old_2
            if HISTORY >= 3:
                if kh_3 != 0.0:
                    q = q + kh_3 * old_3
            _store(q1 + start, q, calls, tl.where(into == 0.0, D, 0), ALIGNED)
            if HISTORY >= 2:
                _store(q2 + start, q, calls, tl.where(into == 1.0, D, 0), ALIGNED)
            if HISTORY >= 3:
                _store(q3 + start, q, calls, tl.where(into == 2.0, D, 0), ALIGNED)

    key = tl.load(seed + slot)
    if s != 0.0:
        z = _normals(key, calls, index, index * 0)
        if LEARNED:
            pair = tl.load(row + 11)
            log_beta, tilde = _first(pair), _second(pair)
            log_variance = ((v + 1.0) * 0.5) * (log_beta - tilde) + tilde
            x_next = x_next + (s * _exp(0.5 * log_variance)) * z
        else:
            x_next = x_next + s * z

    if INPAINT:
        pair = tl.load(row + 12)
        alpha, sigma = _first(pair), _second(pair)
        inpaints = (alpha != 0.0) | (sigma != 0.0)
        if inpaints:
            k = _start(inpaints, CALLS)
            if alpha != 0.0:
                y = _load(known + start, calls, D, ALIGNED)
                k = k + alpha * y
            if sigma != 0.0:
                k = k + sigma * _normals(key, calls, index, index * 0 + 2)
            part = _load(mask + start, calls, D, ALIGNED)
            x_next = part * k + (1.0 - part) * x_next

    _store(x + start, _canonical(x_next, bad), calls, D, ALIGNED)
    net = _network_value(c_in * x_next, bad, net_x)
    _store(net_x + cond_start, net, calls, D, ALIGNED)
    _store(net_x + uncond_start, net, calls, tl.where(uncond >= 0, D, 0), ALIGNED)
    bad0, bad1, bad2, bad3 = _columns(bad.to(tl.int32))
    tl.store(flags + slot + calls * 0, 1, mask=(bad0 | bad1 | bad2 | bad3) != 0)


@triton.jit(
    do_not_specialize=["size", "index", "stream"], do_not_specialize_on_alignment=_SMALL_ARRAYS
)
def normal_fill_kernel(
    out,
    seed,
    index_of,  # uint32 noise index of each sample as int32, where PER_SAMPLE
    index,
    stream,
    size,
    ALIGNED: tl.constexpr,
    PER_SAMPLE: tl.constexpr,
    CALLS: tl.constexpr,
):
    """`reference.normal_fill`; grid (blocks of a sample, samples)."""
    slot = tl.program_id(1)
    if ALIGNED:
        D = size * 4
    else:
        D = size
    if PER_SAMPLE:
        number = tl.load(index_of + slot).to(tl.uint32, bitcast=True)
    else:
        number = index.to(tl.uint32)
    calls = tl.program_id(0) * CALLS + tl.arange(0, CALLS)
    z = _normals(tl.load(seed + slot), calls, number, stream.to(tl.uint32))
    _store(out + slot.to(tl.int64) * D, z, calls, D, ALIGNED)
