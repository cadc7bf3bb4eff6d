"""The noise's definition: published test vectors, golden bits, and the normal distribution."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from revstep.kernels import noise

# Random123 1.09, kat_vectors: philox4x32 10
PHILOX_VECTORS = [
    (("00000000",) * 4, ("00000000",) * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    (("ffffffff",) * 4, ("ffffffff",) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        ("243f6a88", "85a308d3", "13198a2e", "03707344"),
        ("a4093822", "299f31d0"),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]
GOLDEN = "3f452b8f 3f94c54f 3fd4e32d 3f0a3d88 3f630070 bfabbad4 bfbd0cad befab88e"
GOLDEN_EXP = {
    -100.0: "00b33687",
    -87.0: "00b33687",
    -12.25: "36a08fd8",
    -1.0: "3ebc5ab2",
    -0.34657: "3f35051e",
    0.0: "3f800000",
    0.1: "3f8d763e",
    1.0: "402df854",
    88.0: "7ef882b7",
    1e9: "7ef882b7",
}


def _words(values):
    return " ".join(f"{int(w):08x}" for w in values)


@pytest.mark.parametrize(("counter", "key", "want"), PHILOX_VECTORS)
def test_philox_equals_the_published_vectors(counter, key, want):
    words = noise.philox(tuple(int(c, 16) for c in counter), tuple(int(k, 16) for k in key))
    assert _words(words) == want


def test_golden_normals():
    z = noise.normals(0x0123456789ABCDEF, 7, noise.STREAM_STEP, 8)
    assert _words(z.view(np.uint32)) == GOLDEN


def test_an_element_depends_on_nothing_but_its_place():
    long = noise.normals(5, 3, 1, 1001)
    for D in (1, 3, 4, 19, 111):
        np.testing.assert_array_equal(noise.normals(5, 3, 1, D), long[:D])


def test_every_part_of_the_key_changes_the_noise():
    base = noise.normals(5, 3, 1, 64)
    others = [(6, 3, 1), (5 + (1 << 32), 3, 1), (5, 4, 1), (5, 3, 0), (5, 3, 2)]
    for key in others:
        assert np.abs(np.corrcoef(base, noise.normals(*key, 64))[0, 1]) < 0.5


def test_box_muller_equals_its_formula_in_float64():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 1 << 32, (2, 100_000), np.uint64).astype(np.uint32)
    edges = np.array([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xFFFFFFFF], np.uint32)
    a = np.concatenate([a, np.repeat(edges, edges.size)])
    b = np.concatenate([b, np.tile(edges, edges.size)])
    z0, z1 = noise.box_muller(a, b)
    u = (a.astype(np.float64) + 0.5) * 2.0**-32
    half = np.where(b >> 31 == 1, -1.0, 1.0)  # the top bit mirrors the cosine
    y = (b << np.uint32(1)).view(np.int32) * 2.0**-31
    r = np.sqrt(-2 * np.log(u))
    allowed = 2e-6 + np.minimum(6e-8 / r, 3e-4)  # near u = 1, u's 24 bits show in r
    for got, want in ((z0, r * half * np.cos(np.pi / 2 * y)), (z1, r * np.sin(np.pi / 2 * y))):
        assert (np.abs(got - want) < allowed).all()


def test_normals_have_the_normal_distribution():
    z = np.concatenate(
        [noise.normals(seed, index, 0, 8192) for seed in range(32) for index in range(4)]
    ).astype(np.float64)
    n = z.size
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < 4 * math.sqrt(variance / n)
    cdf = NormalDist().cdf
    ordered = np.sort(z)[:: n // 4096]  # Kolmogorov-Smirnov on 4096 order statistics
    ranks = np.arange(0, n, n // 4096) / n
    distance = np.abs(np.array([cdf(v) for v in ordered]) - ranks).max()
    assert distance * math.sqrt(n) < 1.95  # p = 0.001
    neighbours = z.reshape(-1, 8192)
    for lag in (1, 2, 3, 4):
        product = (neighbours[:, :-lag] * neighbours[:, lag:]).mean()
        assert abs(product) < 4 / math.sqrt(n)
    steps = z.reshape(32, 4, 8192)
    assert abs((steps[:, :-1] * steps[:, 1:]).mean()) < 4 / math.sqrt(n)


def test_exp_is_within_two_units_in_the_last_place():
    h = np.linspace(-87, 88, 200_001).astype(np.float32)
    want = np.array([math.exp(v) for v in h.tolist()])
    ulp = np.spacing(want.astype(np.float32)).astype(np.float64)
    assert (np.abs(noise.exp(h) - want) / ulp).max() < 2


def test_golden_exp():
    h = np.array(list(GOLDEN_EXP), np.float32)
    assert _words(noise.exp(h).view(np.uint32)) == " ".join(GOLDEN_EXP.values())
