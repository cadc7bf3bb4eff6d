"""A step of RevstepScheduler beside diffusers' own: `python -m suites.compat.measure`.

Both sides go through whole runs of one scheduler in turns, on the same tensors and one thread;
what counts is the median step of a run, and of the runs the median ratio. What is timed is compared
first. The rows go to bench/results/compat.jsonl, the table to docs/compat.md
(`make tables`).
"""

from __future__ import annotations

import argparse
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from revstep.bench.compare import ratio_interval
from revstep.bench.rows import append_row, new_row
from revstep.kernels import backend, native_isas

ROWS = Path("bench/results/compat.jsonl")
SHAPE = (1, 4, 64, 64)
STEPS = 20
ROUNDS, QUICK_ROUNDS = 60, 3
TARGET = 10.0
TOLERANCE = 1e-5  # of the largest number of the run
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
CASES: dict[str, tuple[str, Mapping[str, Any]]] = {
    "DDIM": ("DDIMScheduler", SD),
    "DDPM": ("DDPMScheduler", SD),
    "PNDM": ("PNDMScheduler", {**SD, "skip_prk_steps": True}),
    "Euler": ("EulerDiscreteScheduler", SD),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", SD),
    "Heun": ("HeunDiscreteScheduler", SD),
    "LMS": ("LMSDiscreteScheduler", SD),
    "KDPM2": ("KDPM2DiscreteScheduler", SD),
    "DPM-Solver++ 2M": ("DPMSolverMultistepScheduler", SD),
    "DPM-Solver++ 3M": ("DPMSolverMultistepScheduler", {**SD, "solver_order": 3}),
    "DPM-Solver++ 2M SDE": (
        "DPMSolverMultistepScheduler",
        {**SD, "algorithm_type": "sde-dpmsolver++"},
    ),
    "DPM-Solver++ 2S": ("DPMSolverSinglestepScheduler", {**SD, "lower_order_final": True}),
    "UniPC": ("UniPCMultistepScheduler", SD),
    "DEIS": ("DEISMultistepScheduler", {**SD, "solver_order": 3}),
    "SA-Solver": ("SASolverScheduler", SD),
    "flow-matching Euler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
    "EDM Euler": ("EDMEulerScheduler", {}),
}


class Side:
    """One scheduler, run over the same tensors again and again."""

    def __init__(self, scheduler: Any, x: Any, m: Any) -> None:
        import torch

        self.scheduler, self.x, self.m = scheduler, x, m
        self.draws = "generator" in inspect.signature(scheduler.step).parameters
        self.scales = hasattr(scheduler, "scale_model_input")
        self.generator = torch.Generator()

    def run(self) -> tuple[list[float], Any]:
        """Seconds of every step, and the last sample."""
        scheduler, m, x = self.scheduler, self.m, self.x
        self.generator.manual_seed(0)
        options = {"generator": self.generator} if self.draws else {}
        scheduler.set_timesteps(STEPS)
        found = []
        for t in scheduler.timesteps:
            if self.scales:
                scheduler.scale_model_input(x, t)
            begun = perf_counter()
            x = scheduler.step(m, t, x, return_dict=False, **options)[0]
            found.append(perf_counter() - begun)
        return found, x


def measure(title: str, rounds: int) -> dict[str, Any]:
    """The figures of one scheduler.

    Raises:
        AssertionError: The two sides' samples differ.
    """
    import diffusers
    import torch

    from revstep.compat import RevstepScheduler

    name, options = CASES[title]
    generator = torch.Generator().manual_seed(0)
    x, m = (torch.randn(SHAPE, generator=generator) for _ in range(2))
    theirs = Side(getattr(diffusers, name)(**options), x, m)
    ours = Side(RevstepScheduler.from_scheduler(theirs.scheduler), x, m)
    times: list[list[float]] = [[], []]
    with torch.no_grad():
        walls = []
        for _ in range(2):
            begun = perf_counter()
            _, got = ours.run()
            walls.append(perf_counter() - begun)
        _, want = theirs.run()
        error = float((got - want).abs().max() / want.abs().max())
        assert error < TOLERANCE, f"{title}: {error:g}"
        for _ in range(rounds):
            for side, found in zip((theirs, ours), times, strict=True):
                found.append(median(side.run()[0]))
    return {
        "part": "step",
        "name": title,
        "scheduler": name,
        "options": {k: v for k, v in options.items() if k not in SD},
        "diffusers_us": 1e6 * median(times[0]),
        "revstep_us": 1e6 * median(times[1]),
        "ratio": ratio_interval([times[1]], [times[0]]),
        "plan_ms": 1e3 * (walls[0] - walls[1]),
        "error": error,
        "rounds": rounds,
    }


def noise_seconds() -> float:
    """Of drawing one step's noise, which both sides do the same way."""
    import torch

    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(500):
        begun = perf_counter()
        torch.randn(SHAPE, generator=generator)
        found.append(perf_counter() - begun)
    return median(found)


def main() -> None:
    """Measures the named schedulers, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(CASES)}")
    parser.add_argument("--quick", action="store_true", help="a trial: rows that no table has")
    parser.add_argument("--out", type=Path, default=ROWS)
    given = parser.parse_args()
    import diffusers
    import torch

    torch.set_num_threads(1)
    for title in given.names or CASES:
        figures = measure(title, QUICK_ROUNDS if given.quick else ROUNDS)
        row = {
            **figures,
            "noise_us": 1e6 * noise_seconds(),
            "shape": list(SHAPE),
            "steps": STEPS,
            "threads": 1,
            "kernels": backend(),
            "isa": (native_isas() or ("-",))[0],
            "torch": torch.__version__,
            "diffusers": diffusers.__version__,
            "load_average": os.getloadavg()[0],
            "quick": given.quick,
        }
        append_row(given.out, new_row("compat", row))
        print(
            f"{title:22s} {row['diffusers_us']:8.1f} us, {row['revstep_us']:6.1f} us, "
            f"{row['ratio']['ratio']:7.1f}x"
        )


if __name__ == "__main__":
    main()
