"""What the parity check runs: one forward pass per row, and DDIM-20."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.program.table import build_program
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.runtime import host_lane
from revstep.export.progress import Stages

STEPS = 20


def forward_rows(
    denoiser: Denoiser,
    arrays: Mapping[str, NDArray[Any]],
    x: NDArray[np.float32],
    t: NDArray[np.float32],
) -> NDArray[np.float32]:
    """The network's output for every row of ``example_arrays``, in calls of an allowed batch."""
    spec, total = denoiser.spec, len(x)
    rows = min(max(total, spec.batch[0]), spec.batch[1])
    buffers = NetworkBuffers.allocate(spec, rows)
    network = denoiser.bind(buffers)
    out = np.empty((total, *spec.output_shape), dtype=np.float32)
    for first in range(0, total, rows):
        chosen = np.minimum(np.arange(first, first + rows), total - 1)  # the last row pads
        buffers.x[:] = x[chosen]
        buffers.t[:] = t[chosen]
        if buffers.second is not None:
            buffers.second[:] = arrays["second"][chosen]
        for name, buffer in buffers.conditions.items():
            buffer[:] = arrays[f"cond.{name}"][chosen]
        network()
        kept = min(rows, total - first)
        out[first : first + kept] = buffers.out[:kept]
    return out


def ddim_run(
    denoiser: Denoiser,
    arrays: Mapping[str, NDArray[Any]],
    count: int,
    stages: Stages,
    what: str,
) -> NDArray[np.float32]:
    """Final states (count, *shape) of DDIM-20, eta 0, guidance 1, from the seed in ``arrays``.

    A network of two times jumps 20 times over the same grid. A given grid has steps of its own.
    """
    spec = denoiser.spec
    steps = spec.grid_of().count or min(STEPS, spec.schedule.steps)
    program = build_program(spec, spec.usual_sampler, steps)
    final = np.empty((count, *spec.shape), dtype=np.float32)
    group = min(count, spec.batch[1])
    lane = host_lane(denoiser, (max(group, spec.batch[0]),))
    for first in range(0, count, group):
        chosen = slice(first, min(first + group, count))
        conditions = {
            c.name: np.ascontiguousarray(arrays[f"ddim20.cond.{c.name}"][chosen])
            for c in spec.conditions
        }
        seeds = np.arange(count, dtype=np.uint64)[chosen] + np.uint64(arrays["ddim20.seed"])
        batch = Batch(seeds, np.ones(len(seeds), np.float32), conditions, conditions)
        share = STEPS // program.length if first == 0 else 0
        samples = lane.admit(program, batch)
        while not lane.done(samples):
            lane.step()
            stages.advance(what, share)
        final[chosen] = lane.states(samples).reshape(-1, *spec.shape)
        lane.retire(samples)
    return final
