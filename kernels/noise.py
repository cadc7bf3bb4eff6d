"""Reference noise: Philox4x32-10, the Box-Muller transform BMX, and the exponential, in numpy.

A normal is a pure function of (seed, noise index, stream, element). Every floating-point
operation is one IEEE float32 add, multiply or square root, in a fixed order and never fused, so
that numpy, C++ and Triton give the same bits. No denormal number ever arises.

References:
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x32-10).
    Box and Muller, "A note on the generation of random normal deviates", 1958.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

STREAM_STEP: Final = 0  # noise of the steps
STREAM_INITIAL: Final = 1  # initial noise
STREAM_KNOWN: Final = 2  # noise of the known part (inpainting)

_U32 = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85


def _floats(words: str) -> tuple[np.float32, ...]:
    bits = np.array([int(w, 16) for w in words.split()], np.uint32)
    return tuple(bits.view(np.float32))


# minimax polynomials, highest power first
_LOG = _floats("be32a248 3e931dd2 be991c78 3ea99952 becc5ba4 3f0002b8 bf2aabc9 3f7ffffc c0000000")
_SIN = _floats("391ed7fb bb992665 3da33458 bf255de1 3fc90fdb")
_COS = _floats("3a60f833 bcaa7b0d 3e81de83 bf9de9d3 3f7fffff")
# exp(r) on |r| <= ln(2)/2, in powers of r
_EXP = _floats("3ab5120b 3c091cfb 3d2aac79 3e2aaa49 3efffffe 3f800000 3f800000")
_MINUS_2_LN2 = np.float32(float.fromhex("-0x1.62e43p-23"))  # of 2**23 units
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_LOG2E, _LN2_HI, _LN2_LO = _floats("3fb8aa3b 3f317200 35bfbe8e")
_ROUND = np.float32(12582912.0)  # 1.5 * 2**23: adding it rounds to an integer
_EXP_LO, _EXP_HI = np.float32(-87.0), np.float32(88.0)


def philox(
    counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int]
) -> tuple[NDArray[np.uint32], ...]:
    """Four uint32 words of Philox4x32-10 for each counter.

    Args:
        counter: Four words of 32 bits, arrays that broadcast against each other.
        key: Two words of 32 bits.

    Returns:
        Four uint32 arrays of the broadcast shape.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in counter))
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0)
        c2 = (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & _U32, p0 & _U32
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return tuple(c.astype(np.uint32) for c in (c0, c1, c2, c3))


def _horner(coefficients: tuple[np.float32, ...], t: NDArray[np.float32]) -> NDArray[np.float32]:
    p = np.full_like(t, coefficients[0])
    for c in coefficients[1:]:
        p = p * t + c  # numpy rounds the product before it adds
    return p


def box_muller(
    a: NDArray[np.uint32], b: NDArray[np.uint32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two independent standard normals from two words: r cos(phi), r sin(phi).

    r = sqrt(-2 ln u) with u in [2^-33, 1] from `a`; phi from `b`, its top bit being the half
    plane. The largest |z| is 6.76.

    Args:
        a: uint32, any shape.
        b: uint32, the same shape.

    Returns:
        Two float32 arrays of that shape.
    """
    u = a.astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)
    bits = u.view(np.int32)
    kb = (bits - _SQRT_HALF_BITS) & np.int32(-0x800000)  # exponent relative to sqrt(1/2)
    t = (bits - kb).view(np.float32) - np.float32(1)  # exact
    log_u2 = kb.astype(np.float32) * _MINUS_2_LN2 + _horner(_LOG, t) * t  # -2 ln u
    r = np.sqrt(log_u2)
    y = (b << np.uint32(1)).view(np.int32).astype(np.float32) * np.float32(2.0**-31)
    q = y * y  # the angle is pi/2 y
    sin = _horner(_SIN, q) * y
    cos = (_horner(_COS, q).view(np.uint32) ^ (b & np.uint32(0x80000000))).view(np.float32)
    return r * cos, r * sin


def normals(seed: int, index: int, stream: int, elements: int) -> NDArray[np.float32]:
    """Standard normals of one sample: the definition of revstep's noise.

    Args:
        seed: Key of the sample, 0 to 2**64 - 1.
        index: Noise index (of the step), 0 to 2**32 - 1.
        stream: STREAM_STEP, STREAM_INITIAL or STREAM_KNOWN.
        elements: D, the number of normals.

    Returns:
        float32 [D]; element i comes from the call with counter (i // 4, index, stream, 0).
    """
    calls = np.arange(-(-elements // 4), dtype=np.uint64)
    words = philox((calls, index, stream, 0), (seed & 0xFFFFFFFF, seed >> 32))
    z = np.empty((calls.size, 4), np.float32)
    z[:, 0], z[:, 1] = box_muller(words[0], words[1])
    z[:, 2], z[:, 3] = box_muller(words[2], words[3])
    return z.reshape(-1)[:elements]


def exp(h: NDArray[np.float32]) -> NDArray[np.float32]:
    """e**h to about 1 ulp, with h clamped to [-87, 88] (no overflow, no denormal).

    Args:
        h: float32, any shape; the result for NaN is unspecified.

    Returns:
        float32 of that shape.

    References:
        Cody and Waite, "Software Manual for the Elementary Functions", 1980: the reduction.
    """
    h = np.where(h < _EXP_LO, _EXP_LO, h)
    h = np.where(h > _EXP_HI, _EXP_HI, h)
    shifted = h * _LOG2E + _ROUND
    n = shifted - _ROUND
    r = (h - n * _LN2_HI) - n * _LN2_LO
    power = ((shifted.view(np.int32) << 23) + np.int32(0x3F800000)).view(np.float32)
    return _horner(_EXP, r) * power
