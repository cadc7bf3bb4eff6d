"""Whole DDIM runs as diffusers makes them: its scheduler's loop, the network eager or compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.cpu.networks import make
from suites.cpu.tasks import Task, conditions_of, noise_of
from suites.gpu.peers import scheduler_for


def peer(
    network: str,
    batch: int,
    steps: int,
    guidance: float = 1.0,
    *,
    compiled: bool = False,
    tiny: bool = False,
) -> Task:
    """The loop of a diffusers pipeline, from the noise of ``noise_of``.

    Args:
        network: Of ``NETWORKS``.
        batch: Samples.
        steps: Of its DDIMScheduler.
        guidance: Other than 1: both halves in one call, as its pipelines do.
        compiled: The network through ``torch.compile``.
        tiny: As for ``make``.
    """
    import diffusers
    import torch

    torch.set_num_threads(1)
    module, spec = make(network, tiny=tiny)
    guided = guidance != 1.0
    rows = 2 * batch if guided else batch
    noise = torch.from_numpy(noise_of(spec, batch))
    conditions = []
    for c in spec.conditions:
        value = torch.from_numpy(conditions_of(spec, batch)[c.name])
        if guided:
            null = torch.as_tensor(c.null, dtype=value.dtype)
            value = torch.cat([null.expand_as(value), value])
        conditions.append(value)
    net: Any = torch.compile(module, dynamic=False) if compiled else module
    scheduler = scheduler_for(spec)

    def draw() -> NDArray[np.float32]:
        scheduler.set_timesteps(steps)
        x = noise
        with torch.no_grad():
            for t in scheduler.timesteps:
                out = net(torch.cat([x, x]) if guided else x, t.float().expand(rows), *conditions)
                if guided:
                    without, given = out.chunk(2)
                    out = without + guidance * (given - without)
                x = scheduler.step(out, t, x).prev_sample
        return np.asarray(x.numpy())

    told = {"torch": torch.__version__, "diffusers": diffusers.__version__, "threads": 1}
    return Task(draw, told={**told, "network": "torch.compile" if compiled else "eager"})
