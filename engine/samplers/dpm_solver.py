"""DPM-Solver++ multistep (Lu et al. 2022, "DPM-Solver++", algorithm 2)."""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.affine import Vector
from revstep.engine.grid import Point, time_grid
from revstep.engine.samplers.base import BaseSampler
from revstep.engine.spec import DenoiserSpec
from revstep.engine.trace import Run

__all__ = ["DPMSolverPP2M"]

FEW_STEPS = 15  # below this the last step is first order, as the authors' code does


@dataclasses.dataclass(frozen=True)
class DPMSolverPP2M(BaseSampler):
    """DPM-Solver++(2M): x_s = (sigma_s / sigma_t) x - alpha_s (e^{-h} - 1) D.

    With h = lambda_s - lambda_t, r = h_last / h and D = x0 + (x0 - x0_last) / (2 r); the first
    step, a step to sigma = 0, and (``lower_order_final``) the last of fewer than 15 steps have
    D = x0.

    Attributes:
        lower_order_final: Whether a short run ends with a first-order step.
    """

    lower_order_final: bool = True

    def __call__(self, run: Run) -> Vector:
        """Walks the grid."""
        x = run.x
        last_x0: Vector | None = None
        last_lam = 0.0
        for number, (now, then) in enumerate(run.steps):
            d = run.denoise(x, now)
            h = then.lam - now.lam
            final = number == len(run.steps) - 1
            short = self.lower_order_final and final and len(run.steps) < FEW_STEPS
            slope = d.x0
            finite = h != 0.0 and math.isfinite(h) and math.isfinite(last_lam)
            if last_x0 is not None and finite and not short:
                r = (now.lam - last_lam) / h
                slope = d.x0 + (d.x0 - last_x0) / (2.0 * r)
            x = (then.sigma / now.sigma) * x - then.alpha * math.expm1(-h) * slope
            last_x0, last_lam = d.x0, now.lam
        return x

    def grid(
        self, spec: DenoiserSpec, steps: int, spacing: str | None, compat: str | None
    ) -> tuple[tuple[Point, Point], ...]:
        """The spec's grid; with compat, diffusers' multistep spacings."""
        return time_grid(spec, steps, spacing, "diffusers-multistep" if compat else None)
