"""Cases of the few-step samplers (LCM, consistency models) and of the methods on a velocity."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from proofs.oracles.case import SHIPPED, Case, Formula, Scheduler, both, settings, spec_for
from proofs.oracles.float64 import schedulers
from proofs.oracles.formulas import consistency_algorithm_1
from proofs.oracles.network import Float64, TestNetwork
from proofs.oracles.schedulers import Noise, Peer
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import TimeGrid
from revstep.engine.spec.schedule import FlowSchedule, VESchedule

VELOCITY = ("flow_prediction",)
LATE = (*np.linspace(0.95, 0.001, 12).tolist(), 0.0)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from latent_consistency()
    yield from consistency()
    yield from velocity()


def latent_consistency() -> Iterator[Case]:
    """The authors' picks of the distillation's steps, with and without clipping."""
    for clip in (False, True):
        for original, scaling in ((50, 10.0), (20, 0.01)):
            own = {
                "clip_sample": clip,
                "original_inference_steps": original,
                "timestep_scaling": scaling,
            }
            peer = Peer("LCMScheduler", settings=own)
            options = {"original_steps": original, "scaling": scaling}
            grids = (("scaled_linear", "trailing", 4), ("linear", "trailing", 7))
            # c_skip x is no x / alpha: over VE's noise levels it is another method
            for spec, steps in settings(grids=grids, edm=(), clip=clip):
                yield from both("lcm", peer, spec, steps, **options)


def consistency() -> Iterator[Case]:
    """The paper's algorithm on x0, and diffusers' scheduler with the boundary of EDM networks."""
    formula = Formula("Song et al. 2023, algorithm 1", consistency_algorithm_1)
    for spec, steps in settings(edm=()):
        yield Case("consistency", formula, spec, steps, compat=None)
    edm = VESchedule.edm(steps=40, sigma_min=0.02)
    peer = Formula("CMStochasticIterativeScheduler", cm_scheduler)
    limit = 1e-8  # the last noise is the root of a rounding: sqrt(sigma_min² - sigma_min²)
    for clip in (False, True):
        spec = spec_for(edm, "edm", clip=clip)
        for steps in (1, 2, 8, 40):
            yield Case("consistency", peer, spec, steps, {"sigma_min": 0.02}, limit, compat=None)


def cm_scheduler(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Diffusers' consistency model scheduler, fed the raw output of the network."""
    torch = importlib.import_module("torch")
    schedule, call = case.spec.schedule, -1
    assert isinstance(schedule, VESchedule)
    name, levels = "CMStochasticIterativeScheduler", (schedule.sigma_min, schedule.sigma_max)
    with schedulers(name, double=True, noise=lambda: noise(call)) as cls:
        scheduler = cls(schedule.steps, *levels, clip_denoised=case.spec.clip)
        scheduler.set_timesteps(case.steps)
        for t in scheduler.timesteps:
            call += 1
            fed = scheduler.scale_model_input(torch.from_numpy(x), t).numpy()
            m = network.output(fed, float(t) / 1000.0)
            x = scheduler.step(torch.from_numpy(m), t, torch.from_numpy(x)).prev_sample.numpy()
    return np.asarray(x)


def velocity() -> Iterator[Case]:
    """Flow matching: Euler, Heun, and Euler's step with all the noise anew."""
    euler = Peer("FlowMatchEulerDiscreteScheduler", "flow", VELOCITY)
    heun = Peer("FlowMatchHeunDiscreteScheduler", "flow", VELOCITY)
    anew = dataclasses.replace(euler, settings={"stochastic_sampling": True})
    for sampler, peer, options in (
        ("flow_euler", euler, {}),
        ("flow_heun", heun, {}),
        ("euler", euler, {}),
        ("ddim", euler, {}),
        ("consistency", anew, {"sigma_min": 0.0}),
    ):
        for prediction in ("flow", "sample", "v_prediction", "mean"):
            for steps in (4, 28):
                spec = spec_for(FlowSchedule(), prediction, grid="linspace")
                yield Case(sampler, Scheduler(peer), spec, steps, options, compat=None)
                if prediction == "flow":
                    shipped = Scheduler(peer, double=False)
                    yield Case(sampler, shipped, spec, steps, options, SHIPPED, compat=None)
        late = dataclasses.replace(peer, prepare=over_late_levels)
        for prediction in ("epsilon", "score"):  # which don't determine x0 at t = 1
            spec = spec_for(FlowSchedule(), prediction, grid=TimeGrid(sigmas=LATE))
            yield Case(sampler, Scheduler(late), spec, len(LATE) - 1, options, compat=None)


def over_late_levels(scheduler: Any, spec: DenoiserSpec) -> None:
    """Starts the scheduler below t = 1."""
    del spec
    levels = scheduler.sigmas.new_tensor(LATE)
    twice = len(scheduler.sigmas) > len(LATE)  # Heun's list has its inner levels twice
    inner = levels[1:-1].repeat_interleave(2) if twice else levels[1:-1]
    scheduler.sigmas = scheduler.sigmas.new_tensor([*levels[:1], *inner, *levels[-1:]])
    calls = [*levels[:1], *inner] if twice else levels[:-1]
    scheduler.timesteps = scheduler.sigmas.new_tensor([*calls]) * 1000.0
