"""diffusers' schedulers, driven step by step over a spec's noise levels.

A scheduler works in coordinates of its own: VP (alpha'² + sigma'² = 1), x / alpha (alpha' = 1), or
flow (alpha' = 1 - sigma'). A state of ours at the same noise level is alpha / alpha' times its.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from proofs.oracles.float64 import schedulers
from proofs.oracles.network import Float64, TestNetwork
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.schedule import VPSchedule

NAMED_BETAS = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")
Noise = Callable[[int], Float64]


@dataclasses.dataclass(frozen=True)
class Peer:
    """One scheduler class, and what it needs to know.

    Attributes:
        name: The class in diffusers.
        space: Its coordinates: ``vp``, ``scaled`` (x / alpha) or ``flow``.
        predictions: What it takes itself; others reach it as the first of these.
        settings: Further fields of its configuration.
        step: Further arguments of its ``step``.
        prepare: Called on the scheduler after ``set_timesteps``.
        change: Makes another class of the scheduler's.
        level: Noise level of a call, for schedulers that call between training indices.
        variance: Of a network with learned variance: what is joined to the output's channels.
    """

    name: str
    space: str = "vp"
    predictions: tuple[str, ...] = ("epsilon", "sample", "v_prediction")
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    step: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    prepare: Callable[[Any, DenoiserSpec], None] | None = None
    change: Callable[[type[Any]], type[Any]] | None = None
    level: Callable[[Any, int], float] | None = None
    variance: Callable[[Float64, float], Float64] | None = None


def peer_run(
    peer: Peer, spec: DenoiserSpec, steps: int, x: Float64, noise: Noise, *, double: bool = True
) -> Float64:
    """The peer's final state from ``x``, both in the spec's coordinates.

    Args:
        peer: The scheduler.
        spec: Gives the noise levels, the network and, for VP, the betas by name.
        steps: Of ``set_timesteps``.
        x: The initial state.
        noise: z of each network call.
        double: Whether the scheduler computes in float64; else as shipped.
    """
    torch = importlib.import_module("torch")
    call = -1
    network = TestNetwork(spec)
    with schedulers(peer.name, double=double, noise=lambda: noise(call)) as found:
        cls = peer.change(found) if peer.change else found
        scheduler = cls(**_settings(found, peer, spec))
        scheduler.set_timesteps(steps)
        if peer.prepare:
            peer.prepare(scheduler, spec)
        state = x
        for call, t in enumerate(scheduler.timesteps):
            if peer.level:
                alpha, sigma = _at_level(spec, peer.level(scheduler, call))
            else:
                alpha, sigma = _at_time(peer, spec, float(t))
            own_alpha, _ = _own(peer.space, alpha, sigma)
            factor = alpha / own_alpha if alpha else 1.0
            if call == 0:
                state = x / factor
            x0, eps = network.estimate(state * factor, alpha, sigma)
            m = own_output(_asked(peer, spec), x0, eps, alpha, sigma)
            if peer.variance is not None:
                m = np.concatenate([m, peer.variance(state * factor, float(t))], axis=1)
            scheduler.is_scale_input_called = True
            arguments = {"return_dict": False, **peer.step}
            if "variance_noise" in arguments:
                arguments["variance_noise"] = torch.from_numpy(noise(call))
            out = scheduler.step(torch.from_numpy(m), t, torch.from_numpy(state), **arguments)
            state = out[0].numpy().astype(np.float64)
    end = spec.schedule.from_index(-1.0 if spec.final == "clean" else 0.0)
    alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(end))
    return np.asarray(state * (alpha / _own(peer.space, alpha, sigma)[0]))


def _settings(cls: type[Any], peer: Peer, spec: DenoiserSpec) -> dict[str, Any]:
    settings: dict[str, Any] = {"num_train_timesteps": spec.schedule.steps}
    if peer.space != "flow":
        settings["prediction_type"] = _asked(peer, spec)
        settings["timestep_spacing"] = spec.grid
        settings["steps_offset"] = spec.grid_offset
        settings["set_alpha_to_one"] = spec.final == "clean"
        settings["final_sigmas_type"] = "zero" if spec.final == "clean" else "sigma_min"
        schedule = spec.schedule
        if isinstance(schedule, VPSchedule) and schedule.betas in NAMED_BETAS:
            settings["beta_schedule"] = schedule.betas
            settings["beta_start"] = schedule.beta_start
            settings["beta_end"] = schedule.beta_end
        else:
            level = schedule.level(schedule.from_index(np.arange(float(schedule.steps))))
            settings["trained_betas"] = list(VPSchedule.from_sigmas(level).trained_betas or ())
    settings = {**settings, **peer.settings}
    allowed = inspect.signature(cls).parameters
    return {k: v for k, v in settings.items() if k in allowed}


def _asked(peer: Peer, spec: DenoiserSpec) -> str:
    """The prediction that the scheduler is set to."""
    own = spec.prediction if spec.schedule.kind != "flow" else f"{spec.prediction}_prediction"
    return own if own in peer.predictions else peer.predictions[0]


def _at_time(peer: Peer, spec: DenoiserSpec, t: float) -> tuple[float, float]:
    """(alpha, sigma) of the spec at a time of the scheduler's."""
    natural = t / spec.schedule.steps if peer.space == "flow" else spec.schedule.from_index(t)
    alpha, sigma = spec.schedule.alpha_sigma(natural)
    return float(alpha), float(sigma)


def _at_level(spec: DenoiserSpec, level: float) -> tuple[float, float]:
    alpha = 1.0 if spec.schedule.kind == "ve" else 1.0 / math.hypot(1.0, level)
    return alpha, alpha * float(level)


def _own(space: str, alpha: float, sigma: float) -> tuple[float, float]:
    if space == "scaled":
        return 1.0, sigma / alpha
    norm = math.hypot(alpha, sigma) if space == "vp" else alpha + sigma
    return alpha / norm, sigma / norm


def own_output(asked: str, x0: Float64, eps: Float64, alpha: float, sigma: float) -> Float64:
    """What a scheduler that is set to ``asked`` takes."""
    match asked:
        case "epsilon":
            return eps
        case "sample":
            return x0
        case "v_prediction":  # VP's v, also where the state is x / alpha
            angle = math.atan(sigma / alpha if alpha else math.inf)
            return math.cos(angle) * eps - math.sin(angle) * x0
    return eps - x0
