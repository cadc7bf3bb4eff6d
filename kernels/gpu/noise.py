"""Noise and exp of the Triton kernels, with the bits of `revstep.kernels.noise`.

Jitted functions only; `revstep.kernels.gpu.step` has their rules.
"""

import triton
import triton.language as tl

from revstep.kernels.gpu.tiles import SMALL_ARRAYS, quads, store_tile


@triton.jit
def box_muller(a, b):
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
def normals(seed, calls, index, stream):
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
    z0, z1 = box_muller(c0, c1)
    z2, z3 = box_muller(c2, c3)
    return quads(z0, z1, z2, z3)


@triton.jit
def exponential(h):
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


@triton.jit(
    do_not_specialize=["size", "index", "stream"], do_not_specialize_on_alignment=SMALL_ARRAYS
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
    z = normals(tl.load(seed + slot), calls, number, stream.to(tl.uint32))
    store_tile(out + slot.to(tl.int64) * D, z, calls, D, ALIGNED)
