"""One process described three ways: variance preserving, variance exploding, and as a flow.

Over the same noise levels sigma / alpha, from the same noise, a sampler that is written in
x / alpha must give the same samples; what depends on the description is named with the reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from proofs.float64_rows import run_rows
from proofs.theory.engine_noise import initial_noise, step_noise
from proofs.theory.mixture import Float64, MixtureNetwork, three_modes
from proofs.theory.noise_processes import process
from revstep.engine.program.samplers import make_sampler
from revstep.engine.program.table import build_program
from revstep.engine.spec.grids import TimeGrid

SAMPLES, STEPS, SEED = 64, 24, 11
HIGH, LOW = 100.0, 0.05
MORE_STEPS = (24, 96, 384)

INVARIANT: dict[str, dict[str, Any]] = {
    "ddim": {}, "ddim(eta=1)": {"eta": 1.0}, "ddpm": {}, "euler": {}, "euler_ancestral": {},
    "heun": {}, "edm(churn=10)": {"churn": 10.0, "high": 50.0}, "dpm2": {}, "dpm2_ancestral": {},
    "dpmpp_1s": {}, "dpmpp_2s": {}, "dpmpp_2m": {}, "dpmpp_3m": {}, "dpmpp_1s_sde": {},
    "dpmpp_2s_sde": {}, "dpmpp_2m_sde": {}, "dpmpp_3m_sde": {}, "cogvideox_dpm": {},
    "deis": {}, "sa_solver(low=0, high=999)": {"low": 0.0, "high": 999.0}, "unipc": {},
    "unipc(order=3)": {"order": 3}, "lms": {}, "ipndm": {}, "pndm": {}, "langevin": {},
    "repaint": {},
}  # fmt: skip
DEPENDENT = {
    "ddpm(variance=large)": "its variance is that of x_t given x_s, in the scale of x_t",
    "reverse_sde": "its drift is a first-order step in x itself",
    "predictor_corrector": "its predictor is reverse_sde's",
}
NOT_COMPARED = {
    "flow_euler": "it is of flow schedules",
    "flow_heun": "it is of flow schedules",
    "flow_euler_ancestral": "it is of flow schedules",
    "consistency": "its sigma_min is a noise in x, whatever alpha is",
    "tcd": "its jump goes to a part of the training index",
    "lcm": "its c_skip is a factor of x, by the training index",
    "flow_map": "its network takes two times",
}


def _options(label: str) -> tuple[str, dict[str, Any]]:
    name = label.split("(")[0]
    options: dict[str, Any] = {"variance": "large"} if "large" in label else {}
    return name, INVARIANT.get(label, options)


def drawn(kind: str, label: str, steps: int = STEPS) -> Float64:
    """Samples of the mixture by that sampler under that description, (SAMPLES, 2)."""
    levels = np.append(np.geomspace(HIGH, LOW, steps), 0.0)
    spec = process(kind)
    grid = TimeGrid(sigmas=tuple(levels / (1.0 + levels) if kind == "flow" else levels))
    name, options = _options(label)
    program = build_program(spec, make_sampler(name, **options), grid=grid)
    shape = (SAMPLES, 2)
    start = program.start[1] * initial_noise(SEED, shape)
    network = MixtureNetwork(three_modes(), spec)
    return np.asarray(run_rows(program, start, network, step_noise(SEED, shape))[0])


def _differences(label: str, steps: int) -> Float64:
    found = [drawn(kind, label, steps) for kind in ("vp", "ve", "flow")]
    return np.abs(np.stack(found[1:]) - found[0])


def largest_difference(label: str, steps: int = STEPS) -> float:
    """Largest difference of a sample's element from VP's, of VE and flow."""
    return float(_differences(label, steps).max())


def median_difference(label: str, steps: int = STEPS) -> float:
    """The median of them: single samples may end in another mode."""
    return float(np.median(_differences(label, steps)))


def descriptions() -> dict[str, Any]:
    """The largest difference of every sampler; for those that depend on it, over the steps too."""
    return {
        "samples": SAMPLES,
        "steps": STEPS,
        "levels": [HIGH, LOW, 0.0],
        "invariant": [
            {"sampler": label, "difference": largest_difference(label)} for label in INVARIANT
        ],
        "dependent": [
            {
                "sampler": label,
                "reason": reason,
                "steps": list(MORE_STEPS),
                "difference": [median_difference(label, n) for n in MORE_STEPS],
            }
            for label, reason in DEPENDENT.items()
        ],
    }
