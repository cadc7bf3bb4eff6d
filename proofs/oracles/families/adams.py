"""Cases of Adams' methods in lambda: DEIS on eps, SA-Solver on x0 with noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proofs.oracles.case import PREDICTIONS, Case, Formula, Scheduler, both, settings, spec_for
from proofs.oracles.formulas import sa_solver_algorithm_1
from proofs.oracles.schedulers import Peer
from revstep.engine.spec.schedule import VPSchedule

GRIDS = (("linear", "trailing", 20), ("scaled_linear", "leading", 10))
SHORT = (("linear", "trailing", 8), ("scaled_linear", "linspace", 16))  # slow peers
EDM = (("trailing", 8),)


def cases() -> Iterator[Case]:
    """All of them. Both schedulers end at training index 0."""
    yield from deis()
    yield from sa_solver()


def deis() -> Iterator[Case]:
    """Orders 1 to 3, with and without lower final orders, and a noise grid."""
    name = "DEISMultistepScheduler"
    for order in (1, 2, 3):
        own: dict[str, Any] = {"solver_order": order}
        for spec, steps in settings(grids=GRIDS, edm=EDM, final="first"):
            yield from both("deis", Peer(name, settings=own), spec, steps, order=order)
        spec = spec_for(VPSchedule(), "epsilon", final="first")
        peer = Peer(name, settings=own | {"lower_order_final": False})
        yield Case("deis", Scheduler(peer), spec, 9, {"order": order, "lower_order_final": False})
        peer = Peer(
            name, settings=own | {"use_karras_sigmas": True, "timestep_spacing": "linspace"}
        )
        spec = spec_for(VPSchedule(), "epsilon", grid="karras", final="first")
        yield Case("deis", Scheduler(peer), spec, 12, {"order": order})


def sa_solver() -> Iterator[Case]:
    """Orders of both parts, noise of any strength, where it begins and ends."""
    for predictor, corrector in ((1, 1), (2, 2), (2, 3), (3, 4), (3, 2), (1, 4)):
        options: dict[str, Any] = {"predictor": predictor, "corrector": corrector}
        peer = sa_peer(predictor, corrector)
        predictions = PREDICTIONS if (predictor, corrector) in ((2, 2), (3, 4)) else ("epsilon",)
        edm = EDM if len(predictions) > 1 else ()
        for spec, steps in settings(predictions=predictions, grids=SHORT, edm=edm, final="first"):
            yield from both("sa_solver", peer, spec, steps, **options)
    for tau, low, high in ((0.0, 0.0, 999.0), (0.6, 0.0, 999.0), (1.4, 300.0, 950.0)):
        options = {"predictor": 3, "corrector": 3, "tau": tau, "low": low, "high": high}
        peer = sa_peer(3, 3, tau, low, high)
        spec = spec_for(VPSchedule(), "v_prediction", final="first")
        yield from both("sa_solver", peer, spec, 18, **options)
        peer = sa_peer(3, 3, tau, low, high, lower_order_final=False)
        yield Case("sa_solver", Scheduler(peer), spec, 9, {**options, "lower_order_final": False})
    formula = Formula("Xue et al. 2023, algorithm 1", sa_solver_algorithm_1)
    for predictor, corrector in ((1, 0), (2, 0), (3, 0), (1, 2), (2, 2), (3, 3)):
        options = {"predictor": predictor, "corrector": corrector, "second": "exact"}
        for spec, steps in settings(predictions=("epsilon", "flow"), grids=SHORT, edm=EDM):
            yield Case("sa_solver", formula, spec, steps, options, compat=None)


def sa_peer(
    predictor: int,
    corrector: int,
    tau: float = 1.0,
    low: float = 200.0,
    high: float = 800.0,
    **more: Any,
) -> Peer:
    """The scheduler; its configuration takes a function of the training index."""
    own: dict[str, Any] = {"predictor_order": predictor, "corrector_order": corrector}
    if (tau, low, high) != (1.0, 200.0, 800.0):
        own["tau_func"] = lambda t: tau if low <= t <= high else 0.0
    return Peer("SASolverScheduler", settings=own | more)
