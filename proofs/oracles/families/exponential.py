"""Cases of the exponential integrators on x0: DPM-Solver++ and UniPC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from proofs.oracles.case import Case, Formula, Scheduler, both, settings, spec_for
from proofs.oracles.formulas import k_diffusion_sde
from proofs.oracles.schedulers import Peer
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import TimeGrid
from revstep.engine.spec.schedule import FlowSchedule, VPSchedule

GRIDS = (
    ("linear", "trailing", 20),
    ("scaled_linear", "leading", 10),
    ("squaredcos_cap_v2", "linspace", 7),
)
SHORT = (("linear", "trailing", 12), ("scaled_linear", "leading", 7))  # slow peers
NAMES = {1: "dpmpp_1s", 2: "dpmpp_2m", 3: "dpmpp_3m"}
SDE = {"algorithm_type": "sde-dpmsolver++"}
NOISE_PASSED = {"variance_noise": True}


def cases() -> Iterator[Case]:
    """All of them."""
    yield from multistep()
    yield from singlestep()
    yield from k_diffusion()
    yield from unipc()
    yield from flow()


def multistep() -> Iterator[Case]:
    """Orders 1 to 3, ODE and SDE, both second-order forms, long and short runs."""
    for order, name in NAMES.items():
        for second in ("midpoint", "heun"):
            own = {"solver_order": order, "solver_type": second}
            ode = Peer("DPMSolverMultistepScheduler", settings=own)
            sde = Peer(
                "DPMSolverMultistepScheduler",
                settings=own | SDE,
                step=NOISE_PASSED,
                change=right_sign if order == 3 else None,
            )
            for spec, steps in settings(grids=GRIDS):
                yield from both(name, ode, spec, steps, second=second)
                yield from both(f"{name}_sde", sde, spec, steps, second=second)
        own = {"solver_order": order, "lower_order_final": False}
        peer = Peer("DPMSolverMultistepScheduler", settings=own)
        spec = spec_for(VPSchedule(), "epsilon", final="first")
        yield Case(name, Scheduler(peer), spec, 10, {"lower_order_final": False})
        peer = Peer("DPMSolverMultistepScheduler", settings=own | {"euler_at_final": True})
        options = {"lower_order_final": False, "euler_at_final": True}
        yield Case(name, Scheduler(peer), spec, 16, options)
        own = {"solver_order": order, "use_karras_sigmas": True, "timestep_spacing": "linspace"}
        spec = spec_for(VPSchedule(), "epsilon", grid="karras")
        peer = Peer("DPMSolverMultistepScheduler", settings=own)
        yield Case(name, Scheduler(peer), spec, 12)


def singlestep() -> Iterator[Case]:
    """Pairs of steps: even and odd counts, ODE and SDE; the peer knows linspace only."""
    grids = (("linear", "linspace", 10), ("scaled_linear", "linspace", 13))
    for second in ("midpoint", "heun"):
        own = {"solver_order": 2, "solver_type": second, "lower_order_final": True}
        ode = Peer("DPMSolverSinglestepScheduler", settings=own)
        sde = Peer("DPMSolverSinglestepScheduler", settings=own | SDE)
        for spec, steps in settings(grids=grids, edm=(("sgm_uniform", 9),)):
            yield from both("dpmpp_2s", ode, spec, steps, second=second)
            yield from both("dpmpp_2s_sde", sde, spec, steps, second=second)
    own = {"solver_order": 2, "lower_order_final": False}
    peer = Peer("DPMSolverSinglestepScheduler", settings=own)
    spec = spec_for(VPSchedule(), "epsilon", grid="linspace", final="first")
    yield Case("dpmpp_2s", Scheduler(peer), spec, 10, {"lower_order_final": False})


def right_sign(scheduler: type[Any]) -> type[Any]:
    """DPMSolverMultistepScheduler with +1/2 for the -1/2 of its third-order SDE step.

    phi_3 is 1/2 + (1 - e^(-2h) - 2h) / (2h)²; the scheduler (0.42) takes 1/2 away. Its own ODE
    step, and k-diffusion's SDE step, have the plus.
    """

    class RightSign(scheduler):  # type: ignore[misc]
        def multistep_dpm_solver_third_order_update(
            self, outputs: list[Any], *args: Any, **more: Any
        ) -> Any:
            out = super().multistep_dpm_solver_third_order_update(outputs, *args, **more)
            lam, alpha = [], 0.0
            for back in range(4):
                alpha, sigma = self._sigma_to_alpha_sigma_t(self.sigmas[self.step_index + 1 - back])
                lam.append((alpha / sigma).log())
            h, h_0, h_1 = lam[0] - lam[1], lam[1] - lam[2], lam[2] - lam[3]
            first = (outputs[-1] - outputs[-2]) * h / h_0
            before = (outputs[-2] - outputs[-3]) * h / h_1
            alpha, _ = self._sigma_to_alpha_sigma_t(self.sigmas[self.step_index + 1])
            return out + alpha * (first - before) * h / (h_0 + h_1)

    return RightSign


def k_diffusion() -> Iterator[Case]:
    """The SDE forms with other noise than 0 and 1, which diffusers has not."""
    formula = Formula("k-diffusion's SDE samplers", k_diffusion_sde)
    for name in NAMES.values():
        for eta in (0.0, 0.5, 1.0):
            options = {"eta": eta, "second": "heun", "lower_order_final": False}
            for spec, steps in settings():
                yield Case(f"{name}_sde", formula, spec, steps, options, compat=None)


def unipc() -> Iterator[Case]:
    """Orders 1 to 3, both B(h), with and without corrector and lower final orders."""
    name = "UniPCMultistepScheduler"
    for order in (1, 2, 3):
        for b in ("bh1", "bh2"):
            # B(h) = -h is infinite in a step to sigma = 0, and the scheduler's result no number
            end = "clean" if b == "bh2" else "first"
            own = {"solver_order": order, "solver_type": b}
            edm = (("trailing", 8),)
            for spec, steps in settings(grids=SHORT, edm=edm, final=end):
                yield from both("unipc", Peer(name, settings=own), spec, steps, order=order, b=b)
        spec = spec_for(VPSchedule(), "epsilon", final="first")
        own = {"solver_order": order, "lower_order_final": False}
        options = {"order": order, "lower_order_final": False}
        yield Case("unipc", Scheduler(Peer(name, settings=own)), spec, 10, options)
        alone: dict[str, Any] = {"solver_order": order, "disable_corrector": list(range(20))}
        options = {"order": order, "corrector": False}
        yield Case("unipc", Scheduler(Peer(name, settings=alone)), spec, 20, options)
        some: dict[str, Any] = {"solver_order": order, "disable_corrector": [0, 1, 6]}
        left_out: dict[str, Any] = {"order": order, "disable_corrector": (0, 1, 6)}
        yield Case("unipc", Scheduler(Peer(name, settings=some)), spec, 12, left_out)
        own = {"solver_order": order, "use_karras_sigmas": True, "timestep_spacing": "linspace"}
        spec = spec_for(VPSchedule(), "epsilon", grid="karras")
        yield Case("unipc", Scheduler(Peer(name, settings=own)), spec, 12, {"order": order})


def flow() -> Iterator[Case]:
    """The schedulers' flow grids, unshifted."""
    levels = tuple(float(t) for t in (1.0 - np.linspace(1.0, 1e-3, 13))[::-1])  # to 0
    spec = spec_for(FlowSchedule(), "flow", grid=TimeGrid(sigmas=levels))
    own = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    name = "DPMSolverMultistepScheduler"
    for order, sampler in NAMES.items():
        own["solver_order"] = order
        peer = flow_peer(name, own)
        yield Case(sampler, Scheduler(peer), spec, 12)
        change = right_sign if order == 3 else None
        peer = flow_peer(name, own | SDE, step=NOISE_PASSED, change=change)
        yield Case(f"{sampler}_sde", Scheduler(peer), spec, 12)
    own |= {"solver_order": 2, "lower_order_final": True}
    peer = flow_peer("DPMSolverSinglestepScheduler", own)
    yield Case("dpmpp_2s", Scheduler(peer), spec, 12)
    peer = flow_peer("DPMSolverSinglestepScheduler", own | SDE)
    yield Case("dpmpp_2s_sde", Scheduler(peer), spec, 12)
    levels = (1.0 - 1e-6, *(float(t) for t in np.linspace(1.0, 1e-3, 13)[1:-1]), 0.0)
    spec = spec_for(FlowSchedule(), "flow", grid=TimeGrid(sigmas=levels))
    for order in (1, 2, 3):
        peer = flow_peer("UniPCMultistepScheduler", own | {"solver_order": order})
        yield Case("unipc", Scheduler(peer), spec, 12, {"order": order})


def flow_peer(name: str, own: dict[str, Any], **more: Any) -> Peer:
    """A scheduler in flow's coordinates, whose times keep their fractions."""

    def prepare(scheduler: Any, spec: DenoiserSpec) -> None:
        del spec
        scheduler.timesteps = scheduler.sigmas[:-1] * 1000.0

    predictions = ("flow_prediction",)
    return Peer(name, "flow", predictions, settings=dict(own), prepare=prepare, **more)
