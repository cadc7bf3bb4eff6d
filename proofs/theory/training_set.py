"""The ideal denoiser of a finite training set: deterministic samplers give its points back.

Its x0 is the mean of the training points, weighted by how likely each is behind the noise: the
mixture with modes of width 0. A run from pure noise ends on a training point; a run from a point
under noise that leaves no doubt which it was ends on that point.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from proofs.float64_rows import run_rows
from proofs.theory.engine_noise import initial_noise
from proofs.theory.mixture import Float64, Mixture, MixtureNetwork, training_points
from proofs.theory.noise_processes import process
from revstep.engine.program.table import StepProgram, build_program

SAMPLERS = (
    *("ddim", "euler", "heun", "dpm2", "dpmpp_2s", "dpmpp_2m", "dpmpp_3m"),
    *("unipc", "lms", "ipndm", "pndm"),
)
RUNS, STEPS, SEED = 256, 50, 3
STRENGTHS = tuple(round(0.1 * k, 1) for k in range(1, 11))


def _run(program: StepProgram, data: Mixture, clean: Float64 | float) -> Float64:
    """From alpha times ``clean`` and sigma times the engine's noise to the end."""
    spec = process("vp", elements=data.means.shape[1])
    alpha, sigma = program.start
    z = initial_noise(SEED, (RUNS, data.means.shape[1]))
    return np.asarray(run_rows(program, alpha * clean + sigma * z, MixtureNetwork(data, spec))[0])


def _nearest(x: Float64, data: Mixture) -> tuple[NDArray[np.int64], Float64]:
    """Each run's nearest training point, and the largest difference of an element from it."""
    squared = np.sum((x[:, None] - data.means) ** 2, axis=2)
    nearest = squared.argmin(axis=1)
    return nearest, np.abs(x - data.means[nearest]).max(axis=1)


def ended_on(sampler: str, steps: int = STEPS) -> dict[str, Any]:
    """Runs from pure noise: how far they end from a training point, and how many they reach."""
    data = training_points()
    spec = process("vp", elements=data.means.shape[1])
    nearest, off = _nearest(_run(build_program(spec, sampler, steps), data, 0.0), data)
    return {
        "sampler": sampler,
        "steps": steps,
        "farthest": float(off.max()),
        "points_reached": len(np.unique(nearest)),
    }


def returned(strength: float, sampler: str = "ddim", steps: int = STEPS) -> dict[str, Any]:
    """Runs from training points under noise: which share comes back to its own point."""
    data = training_points()
    spec = process("vp", elements=data.means.shape[1])
    program = build_program(spec, sampler, steps, strength=strength, from_noise=False)
    own = np.arange(RUNS) % len(data.means)
    nearest, _ = _nearest(_run(program, data, data.means[own]), data)
    alpha, sigma = program.start
    z = initial_noise(SEED, (RUNS, data.means.shape[1]))
    squared = np.sum(
        ((alpha * data.means[own] + sigma * z)[:, None] - alpha * data.means) ** 2, axis=2
    )
    odds = np.exp(-0.5 * (squared - squared.min(axis=1, keepdims=True)) / sigma**2)
    odds /= odds.sum(axis=1, keepdims=True)
    return {
        "strength": strength,
        "level": sigma / alpha,
        "own_point_probability": float(odds[np.arange(RUNS), own].mean()),
        "returned": float(np.mean(nearest == own)),
    }


def training_set() -> dict[str, Any]:
    """Both, for every sampler and strength."""
    data = training_points()
    return {
        "points": len(data.means),
        "elements": data.means.shape[1],
        "runs": RUNS,
        "steps": STEPS,
        "ended_on": [ended_on(name) for name in SAMPLERS],
        "returned": [returned(strength) for strength in STRENGTHS],
    }
