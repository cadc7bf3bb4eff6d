"""One comparison of a sampler with an oracle, and its error."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from proofs.float64_rows import run_rows
from proofs.oracles.network import SHAPE, Float64, TestNetwork
from proofs.oracles.schedulers import Noise, Peer, peer_run
from revstep.engine.program.samplers import make_sampler
from revstep.engine.program.table import build_program
from revstep.engine.spec.denoiser import DenoiserSpec, TimeInput
from revstep.engine.spec.schedule import (
    FlowSchedule,
    Schedule,
    TrigFlowSchedule,
    VESchedule,
    VPSchedule,
)

EXACT = 1e-9  # float64 on both sides
SHIPPED = 5e-4  # diffusers' float32 tables: 1 - abar near t = 0 keeps three digits
PREDICTIONS = ("epsilon", "sample", "v_prediction", "flow", "score", "mean", "edm_v")


class Oracle(Protocol):
    """What a sampler is compared with."""

    @property
    def name(self) -> str:
        """As the table shows it."""

    def __call__(self, case: Case, x: Float64, noise: Noise) -> Float64:
        """The final state of ``case`` from ``x``, in the spec's coordinates."""


@dataclasses.dataclass(frozen=True)
class Scheduler:
    """One of diffusers' schedulers."""

    peer: Peer
    double: bool = True

    @property
    def name(self) -> str:
        """The class, and its precision where that is its own."""
        return self.peer.name if self.double else f"{self.peer.name}, as shipped"

    def __call__(self, case: Case, x: Float64, noise: Noise) -> Float64:
        """Its final state."""
        steps = case.steps
        assert steps is not None
        return peer_run(self.peer, case.spec, steps, x, noise, double=self.double)


@dataclasses.dataclass(frozen=True)
class Formula:
    """A paper's algorithm, written out."""

    name: str
    function: Callable[[Case, TestNetwork, Float64, Noise], Float64]

    def __call__(self, case: Case, x: Float64, noise: Noise) -> Float64:
        """Its final state."""
        return self.function(case, TestNetwork(case.spec), x, noise)


@dataclasses.dataclass(frozen=True)
class Case:
    """One sampler with its options, over one spec and grid, and its oracle.

    Attributes:
        sampler: The registered name.
        oracle: What it is compared with.
        spec: The denoiser: schedule, prediction, grid.
        steps: Steps; None where the grid fixes them.
        options: The sampler's.
        limit: The largest error allowed.
        compat: Of ``build_program``.
        variance: The variance half of a network with learned variance.
    """

    sampler: str
    oracle: Oracle
    spec: DenoiserSpec
    steps: int | None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    limit: float = EXACT
    compat: str | None = "diffusers"
    variance: Callable[[Float64, float], Float64] | None = None

    def __str__(self) -> str:
        options = "".join(f" {k}={v}" for k, v in self.options.items())
        spec = self.spec
        kind = getattr(spec.schedule, "betas", spec.schedule.kind)
        clip = " clipped" if spec.clip else ""
        grid = spec.grid if isinstance(spec.grid, str) else spec.grid.kind
        return (
            f"{self.sampler}{options}, {spec.prediction}{clip}, {kind}, {grid} {self.steps}, "
            f"to {spec.final}: {self.oracle.name}"
        )

    def error(self) -> float:
        """The largest difference of the final states, in parts of the largest value (or of 1)."""
        program = build_program(
            self.spec, make_sampler(self.sampler, **self.options), self.steps, compat=self.compat
        )
        first = program.points[0]
        x = float(np.hypot(first.alpha, first.sigma)) * noise_of_call(-1)
        network, two = TestNetwork(self.spec).output, self.spec.second_time is not None
        got, _ = run_rows(program, x, network, noise_of_call, self.variance, two_times=two)
        want = self.oracle(self, x, noise_of_call)
        return float(np.max(np.abs(got - want)) / max(1.0, float(np.max(np.abs(want)))))


def stable_diffusion() -> DenoiserSpec:
    """As Stable Diffusion 1 is published: its betas, ``leading`` from index 1, to index 0."""
    schedule = VPSchedule(betas="scaled_linear", beta_start=0.00085, beta_end=0.012)
    return spec_for(schedule, "epsilon", grid="leading", grid_offset=1, final="first")


def noise_of_call(number: int) -> Float64:
    """Noise of network call ``number``; -1 is the initial state's."""
    return np.random.default_rng([2020, number + 1]).standard_normal(SHAPE)


def both(
    sampler: str, peer: Peer, spec: DenoiserSpec, steps: int, **options: Any
) -> Iterator[Case]:
    """In float64 and, where the peer takes the prediction itself, as shipped."""
    yield Case(sampler, Scheduler(peer), spec, steps, options)
    if spec.prediction in peer.predictions:
        yield Case(sampler, Scheduler(peer, double=False), spec, steps, options, SHIPPED)


def settings(
    *,
    predictions: tuple[str, ...] = PREDICTIONS,
    grids: tuple[tuple[str, str, int], ...] = (
        ("linear", "trailing", 20),
        ("scaled_linear", "leading", 10),
        ("squaredcos_cap_v2", "trailing", 7),
    ),
    edm: tuple[tuple[str, int], ...] = (("trailing", 8), ("leading", 25)),
    **fields: Any,
) -> Iterator[tuple[DenoiserSpec, int]]:
    """(spec, steps) of every prediction: seven over VP's grids, ``edm`` over EDM's noise levels."""
    for prediction in predictions:
        for betas, grid, steps in grids:
            yield spec_for(VPSchedule(betas=betas), prediction, grid=grid, **fields), steps
    for grid, steps in edm:
        yield spec_for(VESchedule.edm(sigma_min=0.02), "edm", grid=grid, **fields), steps


def spec_for(schedule: Schedule, prediction: str, **fields: Any) -> DenoiserSpec:
    """A spec of the proofs' shape."""
    kind = "index"
    if isinstance(schedule, FlowSchedule):
        kind = "thousand"
    elif isinstance(schedule, TrigFlowSchedule):
        kind = "unit"
    elif isinstance(schedule, VESchedule) and prediction == "edm":
        kind = "log_sigma"
    whole = kind == "index" and not fields.pop("fractions", False)
    fields.pop("fractions", None)
    return DenoiserSpec(
        shape=SHAPE[1:],
        schedule=schedule,
        prediction=prediction,
        time=TimeInput(kind=kind, fractions=not whole),
        value_range=(-1.0, 1.0),
        **fields,
    )
