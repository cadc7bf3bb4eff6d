"""DDIM as one writes it by hand: a loop in numpy, and the loop of a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule
from revstep.export.parity.bounds import relative_error

Array = NDArray[np.float32]
Network = Callable[[Array, int], Array]
"""(state, timestep) -> what the network predicts."""


def ddim_step(
    x: Array, m: Array, a: float, a_next: float, eta: float = 0.0, z: Array | None = None
) -> Array:
    """A step from alpha squared ``a`` to ``a_next``: epsilon, x0 clipped to [-1, 1].

    Args:
        x: The state.
        m: The predicted noise.
        a: Of the state.
        a_next: Of the result.
        eta: 1 for DDPM's variance.
        z: Standard normal, where eta isn't 0.

    References:
        Song et al., "Denoising diffusion implicit models", 2021, eq. 12 and 16.
    """
    x0 = np.clip((x - (1 - a) ** 0.5 * m) / a**0.5, -1.0, 1.0)
    s = eta * ((1 - a_next) / (1 - a) * (1 - a / a_next)) ** 0.5
    found: Array = a_next**0.5 * x0 + (1 - a_next - s * s) ** 0.5 * m
    return found if z is None else found + s * z


def noise_in(x: Array, v: Array, a: float) -> Array:
    """The noise that a predicted velocity means (Salimans and Ho 2022, appendix D)."""
    found: Array = a**0.5 * v + (1 - a) ** 0.5 * x
    return found


def ddim_loop(
    spec: DenoiserSpec, network: Network, noise: Array, steps: int
) -> Callable[[], Array]:
    """A run of so many steps with diffusers' trailing timesteps, eta 0."""
    schedule = spec.schedule
    assert isinstance(schedule, VPSchedule)
    velocity = spec.prediction == "v_prediction"
    count, alphas = schedule.steps, schedule.alphas_cumprod
    times = np.round(np.arange(count, 0, -count / steps)).astype(int) - 1

    def draw() -> Array:
        x = noise
        for t in times:
            before = t - count // steps
            a, a_next = float(alphas[t]), float(alphas[before]) if before >= 0 else 1.0
            m = network(x, t)
            x = ddim_step(x, noise_in(x, m, a) if velocity else m, a, a_next)
        return x

    return draw


def diffusers_loop(
    spec: DenoiserSpec, network: Callable[[Any, Any], Any], noise: Array, steps: int
) -> Callable[[], Array]:
    """The same run by diffusers' DDIMScheduler, on torch tensors."""
    import torch

    from suites.gpu.peers import scheduler_for

    scheduler, start = scheduler_for(spec), torch.from_numpy(noise)

    def draw() -> Array:
        scheduler.set_timesteps(steps)
        x = start
        with torch.no_grad():
            for t in scheduler.timesteps:
                x = scheduler.step(network(x, t), t, x).prev_sample
        return np.asarray(x.numpy())

    return draw


def session_network(
    graph: str, spec: DenoiserSpec, conditions: dict[str, NDArray[Any]], guidance: float
) -> Network:
    """An ONNX Runtime session of one thread, called as its documentation does it.

    Args:
        graph: The file.
        spec: Of the denoiser.
        conditions: Of every row.
        guidance: Other than 1: both halves in one call.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    fed = dict(conditions)
    if guidance != 1.0:
        fed = {
            c.name: np.concatenate([np.full_like(fed[c.name], c.null), fed[c.name]])
            for c in spec.conditions
        }

    def call(x: Array, t: int) -> Array:
        rows = np.concatenate([x, x]) if guidance != 1.0 else x
        time = np.full(len(rows), t, np.float32)
        (out,) = session.run(None, {spec.name: rows, spec.time.name: time, **fed})
        if guidance == 1.0:
            return np.asarray(out)
        without, given = np.split(out, 2)
        return np.asarray(without + np.float32(guidance) * (given - without))

    return call


def apart(*results: Array) -> float:
    """The largest difference of results from the first, over its RMS."""
    return max(relative_error(other, results[0]) for other in results[1:])
