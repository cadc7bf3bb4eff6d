"""Cases of the samplers on the score: reverse SDE, predictor and corrector, Langevin."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import numpy as np

from proofs.oracles.case import Case, Formula, settings, spec_for
from proofs.oracles.float64 import schedulers
from proofs.oracles.formulas import langevin_algorithm_1, predictor_corrector
from proofs.oracles.network import Float64, TestNetwork
from proofs.oracles.schedulers import Noise
from revstep.engine.spec.schedule import VESchedule, VPSchedule


def cases() -> Iterator[Case]:
    """All of them."""
    song = Formula("Song et al. 2021, algorithms 2 to 5", predictor_corrector)
    annealed = Formula("Song & Ermon 2019, algorithm 1", langevin_algorithm_1)
    for spec, steps in settings():
        yield Case("reverse_sde", song, spec, steps, compat=None)
        for options in ({}, {"snr": 0.2, "corrections": 2}):
            yield Case("predictor_corrector", song, spec, steps, options, compat=None)
        for levels in ({}, {"repeats": 2, "step": 0.1}, {"denoise": False}):
            yield Case("langevin", annealed, spec, steps, levels, compat=None)
    spec = spec_for(VPSchedule(), "epsilon", final="first")
    yield Case("predictor_corrector", song, spec, 20, compat=None)
    ve = VESchedule(steps=25, sigma_min=0.05, sigma_max=20.0)
    for prediction in ("score", "epsilon", "sample"):
        spec = spec_for(ve, prediction)
        peer = Formula("ScoreSdeVeScheduler", ve_scheduler)
        yield Case("reverse_sde", peer, spec, 25, compat=None)


def ve_scheduler(case: Case, network: TestNetwork, x: Float64, noise: Noise) -> Float64:
    """Diffusers' predictor, over all of its noise levels; the last step's noise left out."""
    torch = importlib.import_module("torch")
    schedule, steps, call = case.spec.schedule, case.steps, -1
    assert isinstance(schedule, VESchedule)
    assert steps is not None
    with schedulers("ScoreSdeVeScheduler", double=True, noise=lambda: noise(call)) as cls:
        scheduler = cls(steps, sigma_min=schedule.sigma_min, sigma_max=schedule.sigma_max)
        for call, t in enumerate(scheduler.timesteps):
            sigma = float(scheduler.discrete_sigmas[int(t * (steps - 1))])
            score = torch.from_numpy(-network.estimate(x, 1.0, sigma)[1] / sigma)
            out = scheduler.step_pred(score, t, torch.from_numpy(x))
            x = (out.prev_sample if call < steps - 1 else out.prev_sample_mean).numpy()
    return np.asarray(x)
