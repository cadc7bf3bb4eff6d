"""The order of convergence of every ODE solver, on a mixture whose flow is known.

Each solver runs between two positive noise levels with clipping off, in float64, over grids that
are even in the variable that its theory works in; the error is that of x / alpha at the end, the
root mean square over trajectories. A method with history takes its first steps at lower order,
which can hide the method's own order: it is also measured when started on the exact flow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from proofs.float64_rows import run_rows
from proofs.theory.mixture import Float64, Mixture, MixtureNetwork, three_modes
from proofs.theory.noise_processes import even_grid, process
from revstep.engine.program.points import Point
from revstep.engine.program.samplers import make_sampler
from revstep.engine.program.table import StepProgram, build_program

LEVELS = {  # sigma / alpha at the start and at the end
    "lambda": (5.0, 0.2),
    "sigma/alpha": (2.0, 0.5),  # its even steps are large beside a small level
    "t": (5.0, 0.2),
}
STEPS = (20, 40, 80, 160, 320)
FITTED = 4  # the slope is that of the last so many
SLACK = 0.2  # a slope may fall short of its order by this
TRAJECTORIES = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """One solver over one kind of grid.

    Attributes:
        sampler: Its name.
        order: Order of the method.
        process: ``vp``, ``edm`` or ``flow``.
        even: The variable that the steps are even in.
        options: Of the sampler.
        history: Rows whose results are put on the exact flow: what the method's history is made of.
        own: Order with its own start, where that is less.
    """

    sampler: str
    order: int
    process: str
    even: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    history: tuple[int, ...] = ()
    own: int | None = None

    @property
    def own_order(self) -> int:
        """What the method reaches from its own start."""
        return self.order if self.own is None else self.own

    @property
    def label(self) -> str:
        """The sampler as one would write it."""
        inner = ", ".join(f"{k}={v}" for k, v in self.options.items() if k != "lower_order_final")
        return f"{self.sampler}({inner})" if inner else self.sampler

    @property
    def levels(self) -> tuple[float, float]:
        """Sigma / alpha at the start and at the end."""
        return LEVELS[self.even]

    def program(self, steps: int) -> StepProgram:
        """Its rows."""
        spec = process(self.process)
        grid = even_grid(spec, self.even, self.levels, steps)
        return build_program(spec, make_sampler(self.sampler, **self.options), grid=grid)


def _cases() -> Iterator[Case]:
    rows: tuple[int, ...]
    full = {"lower_order_final": False}
    for name in ("ddim", "euler"):
        yield Case(name, 1, "vp", "lambda")
    yield Case("dpmpp_1s", 1, "vp", "lambda", full)
    yield Case("dpmpp_2s", 2, "vp", "lambda", full)
    yield Case("dpmpp_2m", 2, "vp", "lambda", full)
    yield Case("dpmpp_2m", 2, "vp", "lambda", {**full, "second": "heun"})
    yield Case("dpmpp_3m", 2, "vp", "lambda", full)
    yield Case("dpmpp_3m", 3, "vp", "lambda", {**full, "third": "taylor"}, (0, 1), own=2)
    for order in (1, 2, 3):
        for b in ("bh1", "bh2"):
            own, rows = (3, (0, 1, 2)) if order == 3 else (None, ())
            yield Case(
                "unipc", order + 1, "vp", "lambda", {**full, "order": order, "b": b}, rows, own
            )
    for order in (2, 3):
        alone = {**full, "order": order, "corrector": False}
        own, rows = (2, (0, 1)) if order == 3 else (None, ())
        yield Case("unipc", order, "vp", "lambda", alone, rows, own)
    yield Case("deis", 1, "vp", "lambda", {**full, "order": 1})
    yield Case("deis", 2, "vp", "lambda", {**full, "order": 2})
    yield Case("deis", 3, "vp", "lambda", {**full, "order": 3}, (0, 1), own=2)
    for predictor, corrector in ((1, 0), (2, 0), (3, 0), (1, 2), (2, 3), (3, 4)):
        ode = {**full, "predictor": predictor, "corrector": corrector, "tau": 0.0}
        order = max(predictor, corrector)
        own, rows = (order - 1, (0, 1, 2)) if predictor == 3 else (None, ())
        yield Case("sa_solver", order, "vp", "lambda", ode, rows, own)
    yield Case("sa_solver", 2, "vp", "lambda", {**full, "tau": 0.0, "second": "exact"})
    yield Case("edm", 1, "edm", "sigma/alpha", {"order": 1})
    for name in ("heun", "edm", "dpm2"):
        yield Case(name, 2, "edm", "sigma/alpha")
    for order in (1, 2, 3, 4):
        rows = tuple(range(order - 1)) if order > 2 else ()
        yield Case("lms", order, "edm", "lambda", {"order": order}, rows, min(order, 2))
    for order in (1, 2, 3, 4):
        rows = tuple(range(order - 1)) if order > 2 else ()
        yield Case("ipndm", order, "edm", "sigma/alpha", {"order": order}, rows, min(order, 2))
    yield Case("ipndm", 2, "edm", "lambda", {"order": 4})
    yield Case("pndm", 4, "edm", "sigma/alpha", {}, (1, 2, 3), own=3)
    yield Case("pndm", 2, "edm", "lambda")
    yield Case("flow_euler", 1, "flow", "t")
    yield Case("flow_heun", 2, "flow", "t")
    yield Case("flow_euler_ancestral", 1, "flow", "t", {"eta": 0.0})


CASES = tuple(_cases())


class Reference:
    """Trajectories of the exact flow between two noise levels, in y = x / alpha.

    Attributes:
        levels: sigma / alpha at the start and at the end.
        mixture: The data.
        start: y at the start: samples of the process there.
        end: y at the end.
        checked: Largest difference from the flow with half as many steps of the reference.
    """

    def __init__(self, levels: tuple[float, float], mixture: Mixture | None = None) -> None:
        self.levels = high, low = levels
        self.mixture = mixture or three_modes()
        rng = np.random.default_rng(1)
        self.start = self.mixture.draw(TRAJECTORIES, 2)
        self.start = self.start + high * rng.standard_normal(self.start.shape)
        self.end = self.mixture.flow(self.start, high, low, 1000)
        half = self.mixture.flow(self.start, high, low, 500)
        self.checked = float(np.max(np.abs(half - self.end)))

    def at(self, point: Point) -> Float64:
        """The exact state x at a point not far from the start."""
        y = self.mixture.flow(self.start, self.levels[0], point.sigma / point.alpha, 40)
        return point.alpha * y

    def errors(self, case: Case, steps: int) -> dict[str, float]:
        """The solver's root mean square error: ``own`` start, and ``exact`` if it has history."""
        program = case.program(steps)
        points = program.points
        network = MixtureNetwork(self.mixture, process(case.process))
        starts: dict[str, dict[int, Float64]] = {"own": {}}
        if case.history:
            starts["exact"] = {row: self.at(points[row + 1]) for row in case.history}
        found = {}
        for start, instead in starts.items():
            x, _ = run_rows(program, points[0].alpha * self.start, network, instead=instead)
            found[start] = float(np.sqrt(np.mean((x / points[-1].alpha - self.end) ** 2)))
        return found


def fitted_slope(steps: Sequence[int], errors: Sequence[float]) -> float:
    """Minus the slope of log error over log steps, of the last four."""
    last = slice(-FITTED, None)
    return -float(np.polyfit(np.log(steps[last]), np.log(errors[last]), 1)[0])


def convergence(cases: Sequence[Case] = CASES, steps: Sequence[int] = STEPS) -> dict[str, Any]:
    """Errors and slopes of every case, and how exact the reference is."""
    references = {levels: Reference(levels) for levels in {case.levels for case in cases}}
    rows = []
    for case in cases:
        row: dict[str, Any] = {
            "solver": case.label,
            "process": case.process,
            "prediction": process(case.process).prediction,
            "even": case.even,
            "order": case.order,
            "own_order": case.own_order,
        }
        measured = [references[case.levels].errors(case, n) for n in steps]
        for start in measured[0]:
            errors = [found[start] for found in measured]
            row[start] = {"errors": errors, "slope": fitted_slope(steps, errors)}
        rows.append(row)
    return {
        "levels": {even: list(levels) for even, levels in LEVELS.items()},
        "steps": list(steps),
        "trajectories": TRAJECTORIES,
        "reference_error": max(reference.checked for reference in references.values()),
        "rows": rows,
    }
