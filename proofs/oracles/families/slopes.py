"""Cases of the solvers on eps as a slope: Heun, EDM, DPM2, LMS, iPNDM, PNDM."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from proofs.oracles.case import Case, Formula, Scheduler, both, settings, spec_for, stable_diffusion
from proofs.oracles.formulas import edm_algorithm_2, k_diffusion_ancestral, pseudo_numerical
from proofs.oracles.schedulers import Peer
from revstep.engine.program.steps import steps_over
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule

GRIDS = (("linear", "trailing", 8), ("scaled_linear", "linspace", 10), ("linear", "leading", 20))
FEW = (("linear", "trailing", 8), ("scaled_linear", "linspace", 4))  # slow peers
NO_SAMPLE = ("epsilon", "v_prediction")

PNDM = Peer("PNDMScheduler", predictions=NO_SAMPLE, settings={"skip_prk_steps": True})
HEUN = Peer("HeunDiscreteScheduler", "scaled")
DPM2 = Peer(
    "KDPM2DiscreteScheduler",
    "scaled",
    NO_SAMPLE,
    level=lambda s, call: float((s.sigmas_interpol if call % 2 else s.sigmas)[call]),
)
DPM2_ANCESTRAL = Peer(
    "KDPM2AncestralDiscreteScheduler",
    "scaled",
    NO_SAMPLE,
    level=lambda s, call: float(s.sigmas_interpol[call - 1] if call % 2 else s.sigmas[call]),
)


def cases() -> Iterator[Case]:
    """All of them."""
    yield from heun()
    yield from edm()
    yield from dpm2()
    yield from multistep()


def heun() -> Iterator[Case]:
    """Both stages, with and without clipping, and Karras' grid."""
    for clip in (False, True):
        peer = dataclasses.replace(HEUN, settings={"clip_sample": clip})
        for spec, steps in settings(grids=GRIDS, clip=clip):
            yield from both("heun", peer, spec, steps)
    own = {"timestep_spacing": "linspace", "use_karras_sigmas": True}
    spec = spec_for(VPSchedule(), "epsilon", grid="karras", fractions=True)
    yield Case("heun", Scheduler(dataclasses.replace(HEUN, settings=own)), spec, 12)


def edm() -> Iterator[Case]:
    """Churn: none, in every step, capped and limited to a range; Heun's and Euler's step."""
    oracle = Formula("Karras et al. 2022, algorithm 2", edm_algorithm_2)
    for options in (
        {},
        {"churn": 10.0},
        {"churn": 40.0, "low": 0.05, "high": 50.0, "scale": 1.007},
        {"churn": 10.0, "order": 1},
    ):
        predictions = ("epsilon", "sample", "v_prediction", "flow", "score", "edm_v")
        for spec, steps in settings(predictions=predictions, grids=GRIDS, fractions=True):
            yield Case("edm", oracle, spec, steps, options, compat=None)
        if not options:  # mean's target is that of whole indices; churn calls between them
            for spec, steps in settings(predictions=("mean",), grids=GRIDS, edm=()):
                yield Case("edm", oracle, spec, steps, options, compat=None)


def dpm2() -> Iterator[Case]:
    """The midpoint form and its ancestral one; the midpoint lies between training indices."""
    for spec, steps in settings(grids=FEW, edm=(("trailing", 5),), fractions=True):
        yield from both("dpm2", DPM2, spec, steps)
        yield from both("dpm2_ancestral", DPM2_ANCESTRAL, spec, steps)
        less = Formula("k-diffusion, sample_dpm_2_ancestral", k_diffusion_ancestral)
        yield Case("dpm2_ancestral", less, spec, steps, {"eta": 0.6})


def multistep() -> Iterator[Case]:
    """LMS over uneven levels; iPNDM and PNDM with the weights of even ones."""
    for order in (1, 2, 3, 4):
        peer = Peer("LMSDiscreteScheduler", "scaled", step={"order": order})
        formula = Formula("Zhang & Chen 2023, iPNDM", pseudo_numerical)
        for spec, steps in settings(grids=FEW, edm=(("trailing", 8),)):
            yield from both("lms", peer, spec, steps, order=order)
        for spec, steps in settings(grids=GRIDS):
            yield Case("ipndm", formula, spec, steps, {"order": order}, compat=None)
    for grid in ("karras", "exponential", "beta"):
        own = {"timestep_spacing": "linspace", f"use_{grid}_sigmas": True}
        spec = spec_for(VPSchedule(), "epsilon", grid=grid, fractions=True)
        peer = Peer("LMSDiscreteScheduler", "scaled", settings=own, step={"order": 3})
        yield Case("lms", Scheduler(peer), spec, 12)
    ipndm = Peer("IPNDMScheduler", predictions=("v_prediction",), prepare=over_our_levels)
    for spec, steps in settings(
        grids=(("linear", "trailing", 20), ("scaled_linear", "leading", 10))
    ):
        yield Case("ipndm", Scheduler(ipndm), spec, steps, compat=None)
        yield from both("pndm", PNDM, spec, steps)
    yield Case("pndm", Scheduler(PNDM), spec_for(VPSchedule(), "epsilon"), 2)
    yield from both("pndm", PNDM, stable_diffusion(), 50)


def over_our_levels(scheduler: Any, spec: DenoiserSpec) -> None:
    """Puts our grid for the scheduler's own, which is of another process than any of ours."""
    grid = steps_over(spec, scheduler.num_inference_steps)
    points = [*(now for now, _ in grid), grid[-1][1]]
    angles = np.arctan2([p.sigma for p in points], [p.alpha for p in points])
    scheduler.betas = scheduler.betas.new_tensor(np.sin(angles))
    scheduler.alphas = scheduler.betas.new_tensor(np.cos(angles))
    scheduler.timesteps = scheduler.betas.new_tensor([p.index for p in points[:-1]])
