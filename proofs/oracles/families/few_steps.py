"""Cases of the few-step samplers (LCM, consistency models) and of the methods on a velocity."""

from __future__ import annotations

import dataclasses
import importlib
import math
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
from revstep.engine.spec.schedule import FlowSchedule, TrigFlowSchedule, VESchedule

VELOCITY = ("flow_prediction",)
LATE = (*np.linspace(0.95, 0.001, 12).tolist(), 0.0)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from latent_consistency()
    yield from trajectories()
    yield from consistency()
    yield from angles()
    yield from velocity()
    yield from ancestral()


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


def trajectories() -> Iterator[Case]:
    """Jumps of any length, from DDIM's to the clean end; the scheduler ends at index 0."""
    for gamma, original in ((0.3, 50), (0.0, 50), (1.0, 50), (0.45, 20)):
        own = {"original_inference_steps": original}
        peer = Peer("TCDScheduler", settings=own, step={"eta": gamma})
        options = {"gamma": gamma, "original_steps": original}
        grids = (("scaled_linear", "trailing", 4), ("linear", "trailing", 7))
        for spec, steps in settings(grids=grids, edm=(("trailing", 5),), final="first"):
            yield from both("tcd", peer, spec, steps, **options)


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
    lcm = Peer("FlowMatchLCMScheduler", "flow", VELOCITY)
    for sampler, peer, options in (
        ("flow_euler", euler, {}),
        ("flow_heun", heun, {}),
        ("euler", euler, {}),
        ("ddim", euler, {}),
        ("consistency", anew, {"sigma_min": 0.0}),
        ("consistency", lcm, {"sigma_min": 0.0}),
    ):
        for prediction in ("flow", "sample", "v_prediction", "mean", "edm_v"):
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


def angles() -> Iterator[Case]:
    """TrigFlow's consistency models: two steps over 1.3, and even ones."""
    peer = Formula("SCMScheduler", scm_scheduler)
    for data in (0.5, 1.0):
        for prediction in ("edm_v", "v_prediction", "sample"):
            schedule = TrigFlowSchedule(sigma_data=data)
            middle = 1000.0 * 1.3 / (math.pi / 2.0) - 1.0
            for grid, steps in (("trailing", 1), ("trailing", 4), ((999.0, middle), 2)):
                own = grid if isinstance(grid, str) else TimeGrid(times=grid)
                spec = spec_for(schedule, prediction, grid=own, sigma_data=data)
                yield Case("consistency", peer, spec, steps, {"sigma_min": 0.0}, compat=None)


def scm_scheduler(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """SCMScheduler, its output sigma_data F of x / sigma_data as in SANA-Sprint's pipeline."""
    torch = importlib.import_module("torch")
    schedule, steps, call = case.spec.schedule, case.steps, -1
    assert isinstance(schedule, TrigFlowSchedule)
    assert steps is not None
    with schedulers("SCMScheduler", double=True, noise=lambda: noise(call)) as cls:
        scheduler = cls(sigma_data=schedule.sigma_data)
        two = isinstance(case.spec.grid, TimeGrid)
        scheduler.set_timesteps(steps, intermediate_timesteps=1.3 if two else None)
        exact = torch.linspace(math.pi / 2.0, 0.0, steps + 1)  # not 1.5708, in float32
        scheduler.timesteps = torch.tensor([math.pi / 2.0, 1.3, 0.0]) if two else exact
        for call, t in enumerate(scheduler.timesteps[:-1]):  # noqa: B007 (the noise reads it)
            alpha, sigma = (float(v) for v in schedule.alpha_sigma(float(t)))
            x0, eps = network.estimate(x, alpha, sigma)
            velocity = alpha * schedule.sigma_data * eps - sigma / schedule.sigma_data * x0
            out = scheduler.step(torch.from_numpy(velocity), float(t), torch.from_numpy(x))
            x = out.prev_sample.numpy()
    return np.asarray(x)


def ancestral() -> Iterator[Case]:
    """Euler ancestral for rectified flow, with more and less noise."""
    name = "LTXEulerAncestralRFScheduler"
    for eta, scale in ((1.0, 1.0), (0.4, 1.0), (0.0, 1.0), (1.0, 0.5)):
        settings = {"eta": eta, "s_noise": scale}
        options = {"eta": eta, "scale": scale}
        peer = Peer(name, "flow", VELOCITY, settings=settings, prepare=in_float64)
        for prediction in ("flow", "sample", "v_prediction", "mean", "edm_v"):
            for steps in (4, 28):
                spec = spec_for(FlowSchedule(), prediction, grid="linspace")
                yield Case("flow_euler_ancestral", Scheduler(peer), spec, steps, options)
                if prediction == "flow":
                    shipped = Scheduler(dataclasses.replace(peer, prepare=None), double=False)
                    yield Case("flow_euler_ancestral", shipped, spec, steps, options, SHIPPED)
        late = dataclasses.replace(peer, prepare=over_late_levels)
        for prediction in ("epsilon", "score"):
            spec = spec_for(FlowSchedule(), prediction, grid=TimeGrid(sigmas=LATE))
            yield Case("flow_euler_ancestral", Scheduler(late), spec, len(LATE) - 1, options)


def in_float64(scheduler: Any, spec: DenoiserSpec) -> None:
    """The levels of the scheduler, which has them from another that computes in float32."""
    del spec
    torch = importlib.import_module("torch")
    levels = np.linspace(1000.0, 1.0, scheduler.num_inference_steps) / 1000.0
    scheduler.sigmas = torch.tensor([*levels, 0.0], dtype=torch.float64)
    scheduler.timesteps = scheduler.sigmas[:-1] * 1000.0


def over_late_levels(scheduler: Any, spec: DenoiserSpec) -> None:
    """Starts the scheduler below t = 1."""
    del spec
    levels = scheduler.sigmas.new_tensor(LATE)
    twice = len(scheduler.sigmas) > len(LATE)  # Heun's list has its inner levels twice
    inner = levels[1:-1].repeat_interleave(2) if twice else levels[1:-1]
    scheduler.sigmas = scheduler.sigmas.new_tensor([*levels[:1], *inner, *levels[-1:]])
    calls = [*levels[:1], *inner] if twice else levels[:-1]
    scheduler.timesteps = scheduler.sigmas.new_tensor([*calls]) * 1000.0
