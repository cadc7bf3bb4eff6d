"""The law that every stochastic sampler arrives at: exactly for one Gaussian mode, and by samples.

For one mode the distance to the true law follows from the table without drawing anything
(``gaussian_law``), so its order in the steps can be fitted. For the mixture the samples' moments
and their law are compared with exact samples (``two_sample``), from noise to the clean end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from proofs.float64_rows import run_rows
from proofs.theory.convergence import LEVELS, fitted_slope
from proofs.theory.engine_noise import initial_noise, step_noise
from proofs.theory.gaussian_law import law_error
from proofs.theory.mixture import Float64, Mixture, MixtureNetwork, three_modes
from proofs.theory.noise_processes import even_grid, process
from proofs.theory.two_sample import two_sample
from revstep.engine.program.samplers import BaseSampler, make_sampler, sampler
from revstep.engine.program.samplers.ddim import ancestral_sigma
from revstep.engine.program.table import StepProgram, build_program
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector
from revstep.engine.spec.denoiser import DenoiserSpec

SAMPLES = 20_000
LEVEL = 0.01  # of the two-sample test
AGAIN = 500  # added to the seeds
SEED, EXACT_SEED = 100, 1000  # of the engine's noise and of the exact samples of case 0
STEPS = (8, 40, 200, 1000)
LAW_STEPS = (20, 40, 80, 160, 320)


@dataclasses.dataclass(frozen=True)
class Law:
    """One sampler whose law is looked at.

    Attributes:
        sampler: Its name; ``wrong`` is the control below.
        options: Of the sampler.
        order: In the steps, of its distance to the law of one mode; None where it has a part that
            doesn't shrink with the steps.
        process: Of the mixture's samples.
        grid: Their grid.
        steps: Their numbers of steps.
        consistency: Whether the network is the exact consistency function.
        scale: Factor on the noise: 1, but for controls.
    """

    sampler: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    order: int | None = 1
    process: str = "vp"
    grid: str | None = "trailing"
    steps: tuple[int, ...] = STEPS
    consistency: bool = False
    scale: float = 1.0

    @property
    def label(self) -> str:
        """The sampler as one would write it, and what was done to it."""
        inner = ", ".join(f"{k}={v}" for k, v in self.options.items())
        name = "ddim(eta=1) with eps not shortened" if self.sampler == "wrong" else self.sampler
        scaled = "" if self.scale == 1.0 else f", noise x {self.scale:g}"
        return (f"{name}({inner})" if inner else name) + scaled

    def made(self) -> BaseSampler:
        """The sampler itself."""
        return forgetful if self.sampler == "wrong" else make_sampler(self.sampler, **self.options)


@sampler
def forgetful(run: Run) -> Vector:
    """DDIM with eta = 1 that adds its noise without taking as much of the network's eps away."""
    x = run.x
    for now, then in run.steps:
        d = run.denoise(x, now)
        x = then.alpha * d.x0 + then.sigma * d.eps
        if then.sigma > 0.0:
            x = x + ancestral_sigma(now, then) * run.noise()
    return x


def _cases() -> Iterator[Law]:
    yield Law("ddim", {"eta": 1.0})
    yield Law("ddim", {"eta": 0.5})
    yield Law("ddpm", {"variance": "small"})
    yield Law("ddpm", {"variance": "large"})
    yield Law("euler_ancestral")
    yield Law("dpm2_ancestral", order=2)
    yield Law("edm", {"churn": 10.0}, order=2)
    yield Law("dpmpp_1s_sde")
    yield Law("dpmpp_2s_sde")
    yield Law("dpmpp_2m_sde")
    yield Law("dpmpp_3m_sde")
    yield Law("reverse_sde")
    yield Law("predictor_corrector", order=None)
    yield Law("langevin", order=None, process="ve", grid="exponential", steps=(8, 60, 500))
    yield Law("repaint", {"jump_length": 4, "repeats": 3}, order=None, steps=(8, 90, 1000))
    few = {"order": None, "steps": (1, 2, 4), "consistency": True}
    yield Law("consistency", process="ve", grid="karras", **few)  # type: ignore[arg-type]
    yield Law("lcm", grid=None, **few)  # type: ignore[arg-type]
    yield Law("tcd", {"gamma": 1.0}, grid=None, **few)  # type: ignore[arg-type]
    yield Law("cogvideox_dpm")
    yield Law("sa_solver", {"tau": 1.0, "low": 0.0, "high": 999.0})
    yield Law("sa_solver", {"predictor": 3, "corrector": 4, "tau": 0.7})
    yield Law("flow_euler_ancestral", process="flow")


CASES = tuple(_cases())
CONTROLS = (
    Law("ddpm", {"variance": "small"}, steps=(1000,), scale=1.1),
    Law("dpmpp_2m_sde", steps=(1000,), scale=1.1),
    Law("wrong", steps=(1000,)),
)


class ConsistencyFunction:
    """The exact consistency function: the flow's end from any point of it, as an x0 network."""

    END = 0.002  # noise level where it is the identity

    def __init__(self, mixture: Mixture, spec: DenoiserSpec) -> None:
        self.mixture, self.spec = mixture, spec

    def __call__(self, x: Float64, time: float) -> Float64:
        """The end of the flow from x, (N, D)."""
        schedule = self.spec.schedule
        t = time if self.spec.time.kind == "sigma" else schedule.from_index(time)
        alpha, sigma = (float(v) for v in schedule.alpha_sigma(t))
        return self.mixture.flow(x / alpha, sigma / alpha, self.END, 60)


def run_law(
    case: Law, steps: int, samples: int = SAMPLES, seed: int = SEED
) -> tuple[StepProgram, Float64]:
    """The program of ``steps`` steps, and samples of the mixture drawn by it, (samples, 2)."""
    spec = process(case.process, "sample" if case.consistency else None)
    program = build_program(spec, case.made(), steps, grid=case.grid)
    mixture, shape = three_modes(), (samples, 2)
    network = (ConsistencyFunction if case.consistency else MixtureNetwork)(mixture, spec)
    start = program.start[1] * initial_noise(seed, shape)
    x, _ = run_rows(program, start, network, step_noise(seed, shape, case.scale))
    return program, x


def moments(x: Float64, mixture: Mixture) -> tuple[float, float]:
    """Largest error of a mean and of a covariance of ``x``, in standard errors."""
    apart = x - mixture.mean
    products = apart[:, :, None] * apart[:, None, :]
    root = np.sqrt(len(x))
    mean = np.abs(apart.mean(0)) / (apart.std(0) / root)
    covariance = np.abs(products.mean(0) - mixture.covariance) / (products.std(0) / root)
    return float(mean.max()), float(covariance.max())


def sampled(case: Law, number: int = 0, samples: int = SAMPLES) -> dict[str, Any]:
    """Distances to exact samples over the numbers of steps, with the test and moments of each.

    ``number`` gives each case seeds of its own, or one unlucky sample would be every case's. A
    rejection by the largest number of steps is repeated on other samples, ``again``: it stands if
    both reject.
    """
    mixture = three_modes()
    exact = mixture.draw(samples, EXACT_SEED + number)
    found: dict[str, Any] = {"steps": list(case.steps)}
    for steps in case.steps:
        program, x = run_law(case, steps, samples, SEED + number)
        test = two_sample(x, exact)
        mean, covariance = moments(x, mixture)
        for name, value in (
            *(("calls", program.length), ("distance", test.distance), ("p", test.p)),
            *(("by_chance", test.by_chance), ("mean", mean), ("covariance", covariance)),
        ):
            found.setdefault(name, []).append(value)
    found["again"] = None
    if found["p"][-1] <= LEVEL:
        number += AGAIN
        _, x = run_law(case, case.steps[-1], samples, SEED + number)
        found["again"] = two_sample(x, mixture.draw(samples, EXACT_SEED + number)).p
    found["rejected"] = found["again"] is not None and found["again"] <= LEVEL
    return found


def one_mode(case: Law, steps: Sequence[int] = LAW_STEPS) -> dict[str, Any]:
    """Exact distances to the law of one mode between two noise levels, and their slope."""
    spec = process("flow" if case.process == "flow" else "vp")
    errors = []
    for count in steps:
        grid = even_grid(spec, "lambda", LEVELS["lambda"], count)
        program = build_program(spec, case.made(), grid=grid)
        errors.append(law_error(spec, program, case.scale))
    return {"steps": list(steps), "errors": errors, "slope": fitted_slope(steps, errors)}


def laws(
    cases: Sequence[Law] = CASES, controls: Sequence[Law] = CONTROLS, samples: int = SAMPLES
) -> dict[str, Any]:
    """Every stochastic sampler's law, and the controls'."""
    rows = []
    for number, case in enumerate((*cases, *controls)):
        row: dict[str, Any] = {
            "sampler": case.label,
            "process": case.process,
            "spacing": case.grid,
        }
        row |= {"order": case.order, "control": case in controls}
        if case.order is not None:
            row["one_mode"] = one_mode(case)
        row["mixture"] = sampled(case, number, samples)
        rows.append(row)
    return {"samples": samples, "level": LEVEL, "levels": list(LEVELS["lambda"]), "rows": rows}
