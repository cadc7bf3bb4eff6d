"""The ways to ask a network: schedules, kinds of time, predictions that people train with."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

from revstep.engine.errors import BackendError, ExportError
from revstep.engine.spec.denoiser import DenoiserSpec, TimeInput
from revstep.engine.spec.grids import KarrasGrid
from revstep.engine.spec.schedule import (
    ContinuousVPSchedule,
    FlowSchedule,
    Schedule,
    TrigFlowSchedule,
    VESchedule,
    VPSchedule,
)
from revstep.export.fit.score import SpecScore, scored
from revstep.export.fit.trial import Trial

KINDS = {  # the more usual first
    "vp": ("index", "unit", "thousand", "sigma", "log_sigma", "log_snr"),
    "vp_continuous": ("unit", "thousand", "sigma", "log_sigma", "log_snr"),
    "ve": ("sigma", "log_sigma", "index", "unit", "log_snr"),
    "flow": ("unit", "thousand", "index"),
    "trigflow": ("angle", "unit", "thousand"),
}
PREDICTED = {
    "vp": ("epsilon", "v_prediction", "sample", "score", "mean"),
    "vp_continuous": ("epsilon", "v_prediction", "sample", "score"),
    "ve": ("epsilon", "sample", "score"),
    "flow": ("flow", "sample", "epsilon", "v_prediction", "score"),
    "trigflow": ("v_prediction", "epsilon", "sample"),
}
PRECONDITIONED = {"ve": ("edm", "edm_v"), "trigflow": ("edm_v", "edm")}  # fed c_in x
SPANS = {"unit": 1.0, "thousand": 1000.0}  # of a ``reversed_flow``
USUAL_STEPS = 1000


@dataclasses.dataclass(frozen=True)
class Way:
    """Specs that ask a network the same, and read its answer each in its way.

    Attributes:
        specs: They differ in the prediction.
        span: Of the ``reversed_flow`` that the module is to be wrapped in, or None.
    """

    specs: tuple[DenoiserSpec, ...]
    span: float | None = None

    def scores(self, trial: Trial, levels: Collection[int]) -> list[SpecScore]:
        """One of each spec at those of the trial's levels; none where it can't be asked so."""
        at = {k: p for k, p in trial.levels(self.specs[0]).items() if k in levels}
        if not at:
            return []
        try:
            out = trial.outputs(self.specs[0], at, self.span)
        except (ExportError, BackendError):  # as a table of times fails on what is no time of its
            return []
        return [scored(trial, s, at, trial.errors(s, at, out), self.span) for s in self.specs]


def usual_schedules(spec: DenoiserSpec) -> list[Schedule]:
    """The schedules that people train with, of the spec's steps; the more usual first."""
    steps = spec.schedule.steps
    found: list[Schedule] = [
        VPSchedule(steps=steps),
        VPSchedule(steps=steps, betas="scaled_linear", beta_start=0.00085, beta_end=0.012),
        VPSchedule(steps=steps, betas="squaredcos_cap_v2"),
        VPSchedule.sigmoid(steps),
        FlowSchedule(steps=steps),
        VESchedule.edm(steps=steps),
        VESchedule(steps=steps),
        ContinuousVPSchedule(steps=steps),
        ContinuousVPSchedule(steps=steps, curve="cosine"),
        ContinuousVPSchedule(steps=steps, curve="sigmoid"),
        VPSchedule(steps=steps, betas="sigmoid"),
        TrigFlowSchedule(steps=steps, sigma_data=spec.sigma_data),
    ]
    scale = USUAL_STEPS / steps  # of guided-diffusion and denoising-diffusion-pytorch
    if scale != 1.0 and 0.02 * scale < 1.0:
        found.insert(1, VPSchedule(steps=steps, beta_start=1e-4 * scale, beta_end=0.02 * scale))
    return found


def ways(spec: DenoiserSpec, schedule: Schedule) -> Iterator[Way]:
    """The ways over one schedule; all else is the given spec's."""
    kinds = KINDS[schedule.kind]
    if spec.time.kind in kinds:
        kinds = (spec.time.kind, *(k for k in kinds if k != spec.time.kind))
    for kind in kinds:
        try:
            yield Way(tuple(_spec(spec, schedule, p, kind) for p in PREDICTED[schedule.kind]))
        except ValueError:  # such a time is infinite at the schedule's end
            continue
        if inner := PRECONDITIONED.get(schedule.kind):
            yield Way(tuple(_spec(spec, schedule, p, kind) for p in inner))
        if schedule.kind == "flow" and kind in SPANS:
            yield Way((_spec(spec, schedule, "flow", kind),), SPANS[kind])


def _spec(spec: DenoiserSpec, schedule: Schedule, prediction: str, kind: str) -> DenoiserSpec:
    own = kind == spec.time.kind
    fractions = spec.time.fractions if own else kind != "index"
    changed: dict[str, Any] = {
        "time": TimeInput(name=spec.time.name, kind=kind, fractions=fractions)
    }
    if schedule != spec.schedule:
        grid = KarrasGrid() if schedule.kind == "ve" else "trailing"
        changed |= {"schedule": schedule, "grid": grid, "grid_offset": 0}
    return dataclasses.replace(spec, prediction=prediction, **changed)
