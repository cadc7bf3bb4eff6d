"""Cases of the schedulers of one published model: CogVideoX, UnCLIP, Stable Audio."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import math
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

from proofs.oracles.case import Case, Formula, Scheduler, both, spec_for
from proofs.oracles.families.ancestral import variance
from proofs.oracles.float64 import in_float64, schedulers
from proofs.oracles.network import Float64, TestNetwork
from proofs.oracles.schedulers import Noise, Peer, own_output
from revstep.engine.spec.grids import ExponentialGrid, KarrasGrid, NoiseGrid
from revstep.engine.spec.schedule import TrigFlowSchedule, VPSchedule

COSINE_MODULE = "scheduling_cosine_dpmsolver_multistep"


def cases() -> Iterator[Case]:
    """All of them."""
    yield from cogvideox()
    yield from unclip()
    yield from stable_audio()


def latent() -> VPSchedule:
    """The betas of Stable Diffusion."""
    return VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012)


def cogvideox() -> Iterator[Case]:
    """SNR-shifted betas, of zero terminal SNR or not: DDIM, and DPM-Solver++ with old x0."""
    dpm = Formula("CogVideoXDPMScheduler", cogvideox_dpm)
    for zero, shift in ((True, 3.0), (True, 1.0), (False, 2.0)):
        schedule = dataclasses.replace(latent(), snr_shift=shift, zero_terminal_snr=zero)
        settings = {"snr_shift_scale": shift, "rescale_betas_zero_snr": zero}
        predictions = (
            "v_prediction",
            "epsilon",
            "sample",
        )  # v for what it doesn't know: alpha is 0
        peer = Peer("CogVideoXDDIMScheduler", predictions=predictions, settings=settings)
        own_kinds = ("v_prediction", "sample", "flow", "edm_v")
        kinds = own_kinds if zero else (*own_kinds, "epsilon", "score", "mean", "edm")
        for prediction in kinds:
            for grid, steps in (("trailing", 20), ("trailing", 7), ("leading", 10)):
                spec = spec_for(schedule, prediction, grid=grid)
                yield from both("ddim", peer, spec, steps)
                yield Case("cogvideox_dpm", dpm, spec, steps)
    own = {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun", "euler_at_final": True}
    peer = Peer("DPMSolverMultistepScheduler", settings=own, step={"variance_noise": True})
    options = {"second": "heun", "lower_order_final": True, "euler_at_final": True}
    yield Case("cogvideox_dpm", Scheduler(peer), spec_for(latent(), "v_prediction"), 10, options)


def cogvideox_dpm(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """CogVideoXDPMScheduler, which is passed the x0 and the time of the call before."""
    torch = importlib.import_module("torch")
    name, call, spec = "CogVideoXDPMScheduler", -1, case.spec
    schedule = spec.schedule
    assert isinstance(schedule, VPSchedule)
    asked = spec.prediction if spec.prediction in ("epsilon", "sample") else "v_prediction"
    with schedulers(name, double=True, noise=lambda: noise(call)) as cls:
        scheduler = cls(
            prediction_type=asked,
            timestep_spacing=spec.grid,
            rescale_betas_zero_snr=schedule.zero_terminal_snr,
            snr_shift_scale=schedule.snr_shift,
        )
        scheduler.set_timesteps(case.steps)
        old, back = None, None
        for call, t in enumerate(scheduler.timesteps):  # noqa: B007 (the noise reads it)
            alpha, sigma = (float(v) for v in schedule.alpha_sigma(float(t)))
            m = own_output(asked, *network.estimate(x, alpha, sigma), alpha, sigma)
            out = scheduler.step(torch.from_numpy(m), old, t, back, torch.from_numpy(x))
            x, old, back = out[0].numpy(), out[1], t
    return np.asarray(x)


def unclip() -> Iterator[Case]:
    """DDPM over squared cosines, with the variance fixed and learned."""
    names = {"small": "fixed_small_log", "learned": "learned_range"}
    for kind, name in names.items():
        learned = variance if kind == "learned" else None
        for clip in (False, True):
            peer = Peer(
                "UnCLIPScheduler",
                predictions=("epsilon", "sample"),
                settings={"clip_sample": clip, "variance_type": name},
                prepare=with_previous,
                variance=learned,
            )
            for prediction in ("epsilon", "sample"):
                spec = spec_for(
                    VPSchedule(betas="squaredcos_cap_v2"),
                    prediction,
                    grid="linspace",
                    clip=clip,
                    learned_variance=kind == "learned",
                )
                for steps in (7, 25):
                    options = {"variance": kind}
                    yield Case("ddpm", Scheduler(peer), spec, steps, options, variance=learned)


def with_previous(scheduler: Any, spec: Any) -> None:
    """Passes the step the time that it goes to, as UnCLIP's pipeline does."""
    del spec
    step, times = scheduler.step, scheduler.timesteps.tolist()
    after = dict(itertools.pairwise(times))
    scheduler.step = lambda m, t, x, **more: step(m, t, x, prev_timestep=after.get(int(t)), **more)


def stable_audio() -> Iterator[Case]:
    """DPM-Solver++(2M) SDE over noise levels up to 500, of networks with either sign of v."""
    peer = Formula("CosineDPMSolverMultistepScheduler", cosine_scheduler)
    schedule = TrigFlowSchedule(sigma_data=1.0)
    grids: tuple[NoiseGrid, ...] = (
        ExponentialGrid(sigma_min=0.3, sigma_max=500.0),
        KarrasGrid(sigma_min=0.3, sigma_max=500.0),
    )
    for prediction, grid in itertools.product(("edm_v", "edm"), grids):
        spec = spec_for(schedule, prediction, grid=grid, sigma_data=1.0)
        for steps, options in ((8, {}), (20, {}), (20, {"second": "heun"})):
            yield Case("dpmpp_2m_sde", peer, spec, steps, options, compat=None)
        yield Case("dpmpp_1s_sde", peer, spec, 9, compat=None)


def cosine_scheduler(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Its whole run in x / alpha, fed the raw network; our noise for its Brownian path."""
    torch = importlib.import_module("torch")
    name, grid = "CosineDPMSolverMultistepScheduler", case.spec.grid
    assert isinstance(grid, NoiseGrid)
    with mock.patch.dict(sys.modules, torchsde=ModuleType("torchsde")):  # of the path alone
        module = importlib.import_module(f"diffusers.schedulers.{COSINE_MODULE}")
    with in_float64(module):
        cls = getattr(module, name)
        scheduler = cls(
            sigma_schedule=grid.kind,
            prediction_type="epsilon" if case.spec.prediction == "edm" else "v_prediction",
            solver_order=1 if case.sampler == "dpmpp_1s_sde" else 2,
            solver_type=case.options.get("second", "midpoint"),
        )
        scheduler.set_timesteps(case.steps)
        y = torch.from_numpy(x * math.hypot(1.0, float(scheduler.sigmas[0])))
        for call, t in enumerate(scheduler.timesteps):
            z = torch.from_numpy(noise(call))
            scheduler.noise_sampler = lambda *_, z=z: z
            m = network.output(scheduler.scale_model_input(y, t).numpy(), float(t))
            y = scheduler.step(torch.from_numpy(m), t, y).prev_sample
    return np.asarray(y.numpy())
