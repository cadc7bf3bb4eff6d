"""Two samples of points: a distance between their laws, and a permutation test on it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from proofs.theory.mixture import Float64


class TwoSample(NamedTuple):
    """What the test found.

    Attributes:
        distance: Root of the sliced energy distance.
        by_chance: Its root mean square where both samples have one law (over the permutations).
        p: Share of permutations at least as far apart, the observed one counted in.
    """

    distance: float
    by_chance: float
    p: float


def two_sample(
    a: Float64, b: Float64, *, slices: int = 12, permutations: int = 199, seed: int = 0
) -> TwoSample:
    """Whether two samples of equal size have one law, by a permutation test.

    The statistic is the mean over ``slices`` directions u of the integral of (F_a - F_b)² along u,
    F the empirical distribution functions of the projections: half the energy distance (Szekely &
    Rizzo 2013) of each. Permuting the labels gives its law where both samples are alike, so the
    test is exact: a true hypothesis has p <= 0.01 in 1 of 100 seeds.

    Args:
        a: (N, D) points.
        b: (N, D) points.
        slices: Directions: even in the plane, random in more dimensions.
        permutations: Of the labels.
        seed: Of the directions and permutations.

    Raises:
        ValueError: Samples of different shapes.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"two (N, D) samples of one shape are compared; got {a.shape}, {b.shape}")
    rng = np.random.default_rng(seed)
    if a.shape[1] == 2:
        angles = np.pi * np.arange(slices) / slices
        directions = np.stack([np.cos(angles), np.sin(angles)])
    else:
        directions = rng.standard_normal((a.shape[1], slices))
        directions /= np.linalg.norm(directions, axis=0)
    pooled = np.concatenate([a, b]) @ directions  # (2 N, slices)
    order = np.argsort(pooled, axis=0)
    gaps = np.diff(np.take_along_axis(pooled, order, axis=0), axis=0)
    labels = np.repeat([1.0, -1.0], len(a)) / len(a)

    def statistic(signs: Float64) -> float:
        between = np.cumsum(signs[order], axis=0)[:-1]
        return float(np.sum(gaps * between**2)) / slices

    seen = statistic(labels)
    chance = np.array([statistic(rng.permutation(labels)) for _ in range(permutations)])
    p = (1 + int(np.sum(chance >= seen))) / (1 + permutations)
    return TwoSample(float(np.sqrt(seen)), float(np.sqrt(chance.mean())), p)
