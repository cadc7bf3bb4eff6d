"""Cases of ``flow_map``, over networks of two times."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterator

import numpy as np

from proofs.oracles.case import Case, Formula, spec_for
from proofs.oracles.float64 import schedulers
from proofs.oracles.formulas import levels
from proofs.oracles.network import Float64, TestNetwork
from proofs.oracles.schedulers import Noise
from revstep.engine.spec.grids import ShiftedGrid
from revstep.engine.spec.schedule import FlowSchedule, Schedule, VESchedule
from revstep.engine.spec.second_time import SecondTime

MEANINGS = ("end", "length")
GAMMAS = (0.0, 0.3, 1.0)
OF_A_FLOW = ("average_velocity", "jump", "flow", "v_prediction", "edm_v")
OF_LEVELS = ("epsilon", "sample", "score", "mean", "jump")


def cases() -> Iterator[Case]:
    """All of them: diffusers' scheduler of average velocities, and CTM's algorithm."""
    peer = Formula("FlowMapEulerDiscreteScheduler", flow_map_euler)
    for shift, steps, of in itertools.product((1.0, 5.0), (1, 2, 4, 20), MEANINGS):
        second = SecondTime(kind="thousand", of=of, fractions=True)
        grid = ShiftedGrid(shift)
        spec = spec_for(FlowSchedule(), "average_velocity", grid=grid, second_time=second)
        yield Case("flow_map", peer, spec, steps)
    algorithm = Formula("Kim et al. 2024, algorithm 3", ctm_algorithm_3)
    second = SecondTime(kind="sigma")
    ve, edm = VESchedule(sigma_max=20.0), VESchedule.edm(sigma_min=0.02)
    processes: list[tuple[Schedule, str]] = [(FlowSchedule(), p) for p in OF_A_FLOW]
    processes += [*((ve, p) for p in OF_LEVELS), (edm, "edm"), (edm, "edm_v")]
    for (schedule, prediction), gamma, steps in itertools.product(processes, GAMMAS, (1, 3, 12)):
        fields = {"second_time": second, "fractions": True}
        spec = spec_for(schedule, prediction, grid="linspace", **fields)
        yield Case("flow_map", algorithm, spec, steps, {"gamma": gamma}, compat=None)


def flow_map_euler(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Diffusers' scheduler, which is in float64 as it is shipped, told every step's end."""
    del noise
    torch = importlib.import_module("torch")
    grid, second = case.spec.grid, case.spec.second_time
    assert isinstance(grid, ShiftedGrid)
    assert second is not None
    with schedulers("FlowMapEulerDiscreteScheduler", double=False) as cls:
        scheduler = cls(case.spec.schedule.steps, grid.shift)
        scheduler.set_timesteps(case.steps)
        ends = [*scheduler.timesteps[1:], torch.zeros((), dtype=torch.float64)]
        for t, r in zip(scheduler.timesteps, ends, strict=True):
            m = network.output(x, float(t), float(r if second.of == "end" else t - r))
            x = scheduler.step(torch.from_numpy(m), t, torch.from_numpy(x), r).prev_sample.numpy()
    return np.asarray(x)


def ctm_algorithm_3(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Kim et al. 2024, algorithm 3: jump below the next noise level, then noise back to it."""
    gamma, flow = case.options["gamma"], case.spec.schedule.kind == "flow"
    pairs = list(itertools.pairwise(levels(case)))
    for call, (now, (alpha, sigma)) in enumerate(pairs):
        part = gamma if call < len(pairs) - 1 else 0.0
        level = math.sqrt(1.0 - part**2) * sigma / alpha
        below = 1.0 / (1.0 + level) if flow else 1.0
        x0, eps = network.estimate(x, *now, end=(below, below * level))
        x = alpha * (x0 + level * eps) + part * sigma * noise(call)
    return x
