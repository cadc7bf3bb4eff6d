"""Cases of the samplers that make one step of each call: DDIM, DDPM, Euler, RePaint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from proofs.oracles.case import (
    SHIPPED,
    Case,
    Formula,
    Scheduler,
    both,
    settings,
    spec_for,
    stable_diffusion,
)
from proofs.oracles.formulas import k_diffusion_ancestral, repaint_algorithm_1
from proofs.oracles.network import Float64
from proofs.oracles.schedulers import Peer
from revstep.engine.spec.schedule import VPSchedule

EULER = Peer("EulerDiscreteScheduler", "scaled")
ANCESTRAL = Peer("EulerAncestralDiscreteScheduler", "scaled", ("epsilon", "v_prediction"))
WHOLE = (("linear", "trailing", 8), ("scaled_linear", "linspace", 10), ("linear", "leading", 25))


def cases() -> Iterator[Case]:
    """All of them."""
    yield from ddim()
    yield from ddpm()
    yield from euler()
    yield from repaint()


def ddim() -> Iterator[Case]:
    """Eta, clipping with both kinds of eps, steps that don't divide T, zero terminal SNR."""
    for eta in (0.0, 0.7, 1.0):
        for clip in (False, True):
            for epsilon in ("rederive", "keep") if clip else ("rederive",):
                step = {"eta": eta, "use_clipped_model_output": epsilon == "rederive"}
                peer = Peer(
                    "DDIMScheduler",
                    settings={"clip_sample": clip},
                    step={**step, "variance_noise": True} if eta else step,
                )
                options = {"eta": eta, "epsilon": epsilon}
                for spec, steps in settings(clip=clip, edm=(("trailing", 8),)):
                    yield from both("ddim", peer, spec, steps, **options)
    peer = Peer("DDIMScheduler", settings={"clip_sample": False})
    yield from both("ddim", peer, stable_diffusion(), 50)
    zero = VPSchedule(betas="scaled_linear", zero_terminal_snr=True)
    peer = Peer("DDIMScheduler", settings={"clip_sample": False, "rescale_betas_zero_snr": True})
    for prediction in ("sample", "v_prediction"):
        yield Case("ddim", Scheduler(peer), spec_for(zero, prediction), 20)


def variance(x: Float64, time: float) -> Float64:
    """The variance half of the test network's output."""
    return np.asarray(np.cos(x + 0.02 * float(time)))


def ddpm() -> Iterator[Case]:
    """The three variances, clipping, and every training step."""
    names = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}
    for kind, name in names.items():
        learned = variance if kind == "learned" else None
        for clip in (False, True):
            peer = Peer(
                "DDPMScheduler",
                settings={"clip_sample": clip, "variance_type": name},
                variance=learned,
            )
            more: dict[str, Any] = {"clip": clip, "learned_variance": kind == "learned"}
            options = {"variance": kind}
            # of a VE process "beta" is another variance than of the same process scaled to VP
            for spec, steps in settings(edm=(("trailing", 8),) if kind == "small" else (), **more):
                yield Case("ddpm", Scheduler(peer), spec, steps, options, variance=learned)
                if spec.prediction in peer.predictions:
                    shipped = Scheduler(peer, double=False)
                    yield Case("ddpm", shipped, spec, steps, options, SHIPPED, variance=learned)
    peer = Peer("DDPMScheduler", settings={"clip_sample": True, "variance_type": "fixed_small"})
    own = VPSchedule.from_betas(np.linspace(1e-3, 0.05, 300) ** 1.1)
    for schedule in (VPSchedule(betas="sigmoid"), own):
        spec = spec_for(schedule, "v_prediction", clip=True)
        yield Case("ddpm", Scheduler(peer), spec, 15)
    spec = spec_for(VPSchedule(steps=200), "epsilon", clip=True, grid="leading")
    yield Case("ddpm", Scheduler(peer), spec, 200)


def euler() -> Iterator[Case]:
    """Euler and its ancestral form, over grids in indices and in noise levels."""
    for spec, steps in settings(grids=WHOLE):
        yield from both("euler", EULER, spec, steps)
        yield from both("euler_ancestral", ANCESTRAL, spec, steps)
    for grid in ("karras", "exponential", "beta"):
        own = {"timestep_spacing": "linspace", f"use_{grid}_sigmas": True}
        peer = dataclasses.replace(EULER, settings=own)
        spec = spec_for(VPSchedule(), "epsilon", grid=grid, fractions=True)
        yield Case("euler", Scheduler(peer), spec, 12)
    less = Formula("k-diffusion, sample_euler_ancestral", k_diffusion_ancestral)
    for spec, steps in settings(grids=WHOLE):
        yield Case("euler_ancestral", less, spec, steps, {"eta": 0.6})
    spec = spec_for(VPSchedule(), "epsilon", final="first")
    yield Case("euler", Scheduler(EULER), spec, 12, compat=None)  # ends in x, not in x / alpha


def repaint() -> Iterator[Case]:
    """The walk down and up; the known pixels are the kernel's own variant."""
    oracle = Formula("Lugmayr et al. 2022, algorithm 1", repaint_algorithm_1)
    for options in (
        {"jump_length": 2, "repeats": 3},
        {"jump_length": 3, "repeats": 2, "eta": 0.5},
        {"jump_length": 10, "repeats": 2},
    ):
        for spec, steps in settings(grids=WHOLE):
            yield Case("repaint", oracle, spec, steps, options, compat=None)
