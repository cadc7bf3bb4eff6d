"""The step in Triton: the GPU's kernels, with the bits of `revstep.kernels.reference`.

Every number that changes between steps is read from memory; what is fixed for given buffers
(dtype, history, variants) is a compile-time constant. Rules that keep the bits:

- launch and compile with enable_fp_fusion=False; no tl.fma, `tl.sqrt_rn` instead of `tl.sqrt`;
- a sum starts at -0, the neutral element of addition, and its absent terms are skipped by
  branches on coefficients, which are uniform over a block; loads have the same condition;
- comparisons and selects instead of min and max, which drop NaN.

One Philox call makes the four neighbouring elements of one thread: a 16-byte access of float32.
The table is read as 64-bit pairs of columns, half the loads. Neither shared memory nor barriers.

This file, `tile_access` and `tile_noise` hold jitted functions only, and no library function of
Triton: so a test may load them under Triton's interpreter beside the compiled ones. No postponed
annotations in them: Triton reads them.
"""

import triton
import triton.language as tl

from revstep.kernels.gpu.noise import exponential, normal_fill_kernel, normals
from revstep.kernels.gpu.tiles import (
    SMALL_ARRAYS,
    canonical,
    columns,
    first,
    load_tile,
    network_value,
    not_finite,
    second,
    start_sum,
    store_tile,
)

__all__ = ["begin_step_kernel", "fused_step_kernel", "normal_fill_kernel"]


@triton.jit(do_not_specialize=["slots"], do_not_specialize_on_alignment=SMALL_ARRAYS)
def begin_step_kernel(
    table,  # int64 pairs of float32
    base,
    length,
    counter,
    current,
    cond_row,
    uncond_row,
    net_t,
    net_t2,
    slots,
    SLOTS: tl.constexpr,
    SECOND: tl.constexpr,  # the network takes a second time
):
    """`reference.begin_step`; one thread per slot."""
    b = tl.program_id(0) * SLOTS + tl.arange(0, SLOTS)
    inside = b < slots
    steps = tl.load(length + b, mask=inside, other=0)
    step = tl.minimum(tl.load(counter + b, mask=inside, other=0), steps)
    row = tl.load(base + b, mask=inside, other=0) + step
    tl.store(current + b, row, mask=inside)
    tl.store(counter + b, tl.minimum(step + 1, steps), mask=inside)
    time = first(tl.load(table + row.to(tl.int64) * 16, mask=inside, other=0))
    cond = tl.load(cond_row + b, mask=inside, other=-1)
    uncond = tl.load(uncond_row + b, mask=inside, other=-1)
    tl.store(net_t + cond, time, mask=cond >= 0)
    tl.store(net_t + uncond, time, mask=uncond >= 0)
    if SECOND:
        time = second(tl.load(table + row.to(tl.int64) * 16 + 13, mask=inside, other=0))
        tl.store(net_t2 + cond, time, mask=cond >= 0)
        tl.store(net_t2 + uncond, time, mask=uncond >= 0)


@triton.jit(do_not_specialize=["size"], do_not_specialize_on_alignment=SMALL_ARRAYS)
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
    HISTORY: tl.constexpr,  # arrays of history, 0..3
    X0: tl.constexpr,  # x0 is written out
    INPAINT: tl.constexpr,
    LEARNED: tl.constexpr,
    CALLS: tl.constexpr,  # Philox calls of a block: it does 4 CALLS elements
):
    """`reference.fused_step`; grid (blocks of a sample, slots)."""
    slot = tl.program_id(1)
    row = table + tl.load(current + slot).to(tl.int64) * 16
    if first(tl.load(row + 13)) == 0.0:  # the identity row
        return
    c_in = second(tl.load(row + 16))  # of the next row
    pair = tl.load(row + 1)
    p_x, p_m = first(pair), second(pair)
    pair = tl.load(row + 3)
    c_x, c_m = first(pair), second(pair)
    pair = tl.load(row + 4)
    c_0, h_1 = first(pair), second(pair)
    pair = tl.load(row + 6)
    s, w = first(pair), second(pair)
    pair = tl.load(row + 7)
    k_x, k_m = first(pair), second(pair)
    pair = tl.load(row + 8)
    k_0, kh_1 = first(pair), second(pair)
    pair = tl.load(row + 10)
    into, noise = first(pair), second(pair)
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
    x_old = load_tile(x + start, calls, tl.where(need_x, D, 0), ALIGNED)
    m = load_tile(m_place, calls, tl.where(need_m, D, 0), ALIGNED).to(tl.float32)
    if guided:
        u_place = output + uncond_start * width
        u = load_tile(u_place, calls, D, ALIGNED).to(tl.float32)
        m = u + g_eff * (m - u)
    bad = not_finite(m)
    if LEARNED:
        v = load_tile(m_place + D, calls, tl.where(s != 0.0, D, 0), ALIGNED).to(tl.float32)
        bad = bad | not_finite(v)
    if HISTORY >= 1:
        need = (h_1 != 0.0) | (kh_1 != 0.0)
        old_1 = load_tile(q1 + start, calls, tl.where(need, D, 0), ALIGNED)
    if HISTORY >= 2:
        pair = tl.load(row + 5)
        h_2, h_3 = first(pair), second(pair)
        pair = tl.load(row + 9)
        kh_2, kh_3 = first(pair), second(pair)
        need = (h_2 != 0.0) | (kh_2 != 0.0)
        old_2 = load_tile(q2 + start, calls, tl.where(need, D, 0), ALIGNED)
    if HISTORY >= 3:
        need = (h_3 != 0.0) | (kh_3 != 0.0)
        old_3 = load_tile(q3 + start, calls, tl.where(need, D, 0), ALIGNED)

    x0 = start_sum((p_x != 0.0) | (p_m != 0.0), CALLS)
    if need_x0:
        if p_x != 0.0:
            x0 = x0 + p_x * x_old
        if p_m != 0.0:
            x0 = x0 + p_m * m
        pair = tl.load(row + 2)
        lo, hi = first(pair), second(pair)
        x0 = tl.where(x0 < lo, lo, x0)
        x0 = tl.where(x0 > hi, hi, x0)
    if X0:
        store_tile(x0_out + start, canonical(x0, bad), calls, D, ALIGNED)

    has_terms = (c_x != 0.0) | (c_m != 0.0) | (c_0 != 0.0) | (s != 0.0)
    if HISTORY >= 1:
        has_terms = has_terms | (h_1 != 0.0)
    if HISTORY >= 2:
        has_terms = has_terms | (h_2 != 0.0)
    if HISTORY >= 3:
        has_terms = has_terms | (h_3 != 0.0)
    x_next = start_sum(has_terms, CALLS)
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
            q = start_sum(has_terms, CALLS)
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
            store_tile(q1 + start, q, calls, tl.where(into == 0.0, D, 0), ALIGNED)
            if HISTORY >= 2:
                store_tile(q2 + start, q, calls, tl.where(into == 1.0, D, 0), ALIGNED)
            if HISTORY >= 3:
                store_tile(q3 + start, q, calls, tl.where(into == 2.0, D, 0), ALIGNED)

    key = tl.load(seed + slot)
    if s != 0.0:
        z = normals(key, calls, index, index * 0)
        if LEARNED:
            pair = tl.load(row + 11)
            log_beta, tilde = first(pair), second(pair)
            log_variance = ((v + 1.0) * 0.5) * (log_beta - tilde) + tilde
            x_next = x_next + (s * exponential(0.5 * log_variance)) * z
        else:
            x_next = x_next + s * z

    if INPAINT:
        pair = tl.load(row + 12)
        alpha, sigma = first(pair), second(pair)
        inpaints = (alpha != 0.0) | (sigma != 0.0)
        if inpaints:
            k = start_sum(inpaints, CALLS)
            if alpha != 0.0:
                y = load_tile(known + start, calls, D, ALIGNED)
                k = k + alpha * y
            if sigma != 0.0:
                k = k + sigma * normals(key, calls, index, index * 0 + 2)
            part = load_tile(mask + start, calls, D, ALIGNED)
            x_next = part * k + (1.0 - part) * x_next

    store_tile(x + start, canonical(x_next, bad), calls, D, ALIGNED)
    net = network_value(c_in * x_next, bad, net_x)
    store_tile(net_x + cond_start, net, calls, D, ALIGNED)
    store_tile(net_x + uncond_start, net, calls, tl.where(uncond >= 0, D, 0), ALIGNED)
    bad0, bad1, bad2, bad3 = columns(bad.to(tl.int32))
    tl.store(flags + slot + calls * 0, 1, mask=(bad0 | bad1 | bad2 | bad3) != 0)
