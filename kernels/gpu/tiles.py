"""Tiles of the Triton kernels: the pieces of rows that a block reads, sums and writes.

A tile is [calls, 4]: one noise call makes the four neighbouring elements of one thread, a 16-byte
access of float32. Jitted functions only; `revstep.kernels.gpu.step` has their rules.
"""

import triton
import triton.language as tl

SMALL_ARRAYS = ["base", "length", "counter", "current", "seed", "guidance", "cond_row"]
SMALL_ARRAYS += ["uncond_row", "flags", "net_t", "net_t2", "index_of"]  # their alignment may vary


@triton.jit
def first(pair):
    return pair.to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def second(pair):
    return (pair >> 32).to(tl.int32).to(tl.float32, bitcast=True)


@triton.jit
def quads(v0, v1, v2, v3):
    """[calls, 4] from four columns, which stay in their threads."""
    v = tl.join(tl.join(v0, v2), tl.join(v1, v3))
    return tl.reshape(v, (v.shape[0], 4))


@triton.jit
def columns(v):
    v02, v13 = tl.split(tl.reshape(v, (v.shape[0], 2, 2)))
    v0, v2 = tl.split(v02)
    v1, v3 = tl.split(v13)
    return v0, v1, v2, v3


@triton.jit
def load_tile(place, calls, limit, ALIGNED: tl.constexpr):
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
        v = quads(v0, v1, v2, v3)
    return v


@triton.jit
def store_tile(place, v, calls, limit, ALIGNED: tl.constexpr):
    if ALIGNED:
        offset = calls[:, None] * 4 + tl.arange(0, 4)[None, :]
        tl.store(place + offset, v, mask=offset < limit)
    else:
        e = calls * 4
        v0, v1, v2, v3 = columns(v)
        tl.store(place + e, v0, mask=e < limit)
        tl.store(place + (e + 1), v1, mask=e + 1 < limit)
        tl.store(place + (e + 2), v2, mask=e + 2 < limit)
        tl.store(place + (e + 3), v3, mask=e + 3 < limit)


@triton.jit
def start_sum(has_terms, CALLS: tl.constexpr):
    """-0 in every element, or 0 for a sum without terms."""
    zero = tl.where(has_terms, -0x80000000, 0).to(tl.int32).to(tl.float32, bitcast=True)
    return tl.broadcast_to(zero, CALLS, 4)


@triton.jit
def not_finite(v):
    return (v.to(tl.int32, bitcast=True) & 0x7FFFFFFF) >= 0x7F800000


@triton.jit
def canonical(v, bad):
    """Float32 `v`, or the NaN 0x7fc00000 where `bad`."""
    return tl.where(bad, 0x7FC00000, v.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)


@triton.jit
def network_value(v, bad, like):
    """`v` in the network's dtype (that of pointer `like`), with its canonical NaN where `bad`."""
    dtype: tl.constexpr = like.dtype.element_ty
    if dtype == tl.float32:
        out = canonical(v, bad)
    else:
        nan: tl.constexpr = 0x7E00 if dtype == tl.float16 else 0x7FC0
        bits = v.to(dtype).to(tl.int16, bitcast=True)
        out = tl.where(bad, nan, bits).to(tl.int16).to(dtype, bitcast=True)
    return out
