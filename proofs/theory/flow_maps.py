"""An exact flow map: networks of two times that know the flow of one Gaussian mode.

The map from any time to any other is affine there (``OneMode.flow``), so ``flow_map`` must arrive
at the same state in one step and in many; and with new noise at each step at the same law.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from proofs.float64_rows import run_rows
from proofs.predictions import Float64, interval_end, natural_time, prediction_of
from proofs.theory.gaussian_law import OneMode, law_error
from proofs.theory.noise_processes import process
from revstep.engine.program.samplers import make_sampler
from revstep.engine.program.table import build_program
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.prediction import input_scale
from revstep.engine.spec.second_time import SecondTime

STEPS = (1, 2, 4, 8, 64)
GAMMAS = (0.3, 1.0)
CASES = (
    ("flow", "average_velocity", "end"), ("flow", "average_velocity", "length"),
    ("flow", "jump", "end"), ("ve", "jump", "end"), ("ve", "sample", "end"), ("edm", "edm", "end"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ExactMap:
    """The spec's prediction of the exact map of a mode, on coefficients over the noises."""

    spec: DenoiserSpec
    mode: OneMode

    def __call__(self, fed: Float64, time: float, second: float) -> Float64:
        """The output for c_in x and both times of a row."""
        spec = self.spec
        t = natural_time(spec, time)
        alpha, sigma = (float(v) for v in spec.schedule.alpha_sigma(t))
        end = interval_end(spec, time, second)
        x = fed / input_scale(spec.prediction, alpha, sigma, spec.sigma_data)
        there = self.mode.flow(x, (alpha, sigma), end)
        if spec.prediction == "average_velocity" and end[1] != sigma:
            return (x - there) / (sigma - end[1])
        # of the line through both states: x = alpha x0 + sigma eps, and there likewise
        apart = end[0] * sigma - alpha * end[1]
        x0 = (sigma * there - end[1] * x) / apart
        return prediction_of(spec, x, x0, (x - alpha * x0) / sigma, t, end)


def mapped(kind: str, prediction: str, of: str) -> DenoiserSpec:
    """The spec of such a network."""
    spec = process(kind, elements=1)
    unit = "unit" if kind == "flow" else "sigma"
    second = SecondTime(name="r", kind=unit, of=of, fractions=True)
    return dataclasses.replace(spec, prediction=prediction, second_time=second)


def error(spec: DenoiserSpec, steps: int) -> float:
    """The largest difference of a coefficient from the flow's own end, in a run from noise."""
    program = build_program(spec, "flow_map", steps)
    mode, start = OneMode(), program.points[0]
    x = start.sigma * np.eye(2)[1]
    want = mode.flow(x, (start.alpha, start.sigma), (1.0, 0.0))
    got, _ = run_rows(program, x, ExactMap(spec, mode), two_times=True)
    return float(np.max(np.abs(got - want)))


def law(spec: DenoiserSpec, steps: int, gamma: float) -> float:
    """The distance to the data's law, from the exact law at the first time."""
    program = build_program(spec, make_sampler("flow_map", gamma=gamma), steps)
    return law_error(spec, program, network=ExactMap(spec, OneMode()))


def flow_maps() -> dict[str, Any]:
    """Both, of every case."""
    rows = []
    for kind, prediction, of in CASES:
        spec = mapped(kind, prediction, of)
        row: dict[str, Any] = {"process": kind, "prediction": prediction, "of": of}
        row["errors"] = [error(spec, n) for n in STEPS]
        row["laws"] = {str(gamma): [law(spec, n, gamma) for n in STEPS] for gamma in GAMMAS}
        rows.append(row)
    return {"steps": list(STEPS), "gammas": list(GAMMAS), "rows": rows}
