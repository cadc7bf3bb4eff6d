r"""Deterministic inversion: from data to the noise that DDIM turns into it.

The walk over the grid is that of DDIM (Song, Meng & Ermon 2021, section 4.3), from data to noise.
From s to the noisier t, with r = alpha_t / alpha_s,

.. math:: x_t = r\, x_s + (\sigma_t - r \sigma_s)\, \epsilon(x_t, t)

would be undone by DDIM's own step exactly. Its right side is not known beforehand: the explicit
walk takes eps(x_s, s), an error that falls with the number of steps; iterations put the newest x_t
in (Pan et al. 2023, eq. 6), an error that falls with their number too.

References:
    Song, Meng & Ermon, "Denoising diffusion implicit models", 2021, arXiv:2010.02502.

    Pan et al., "Effective real image editing with accelerated iterative diffusion inversion", 2023.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import ProgramError
from revstep.engine.message import Argument
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.samplers.ddim import DDIM
from revstep.engine.program.steps import Steps, steps_run
from revstep.engine.program.table import StepProgram, build_program
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.grids import Grid

MAX_ITERATIONS = 100


@dataclasses.dataclass(frozen=True)
class DDIMInversion(BaseSampler):
    """DDIM's grid walked from data to noise.

    The first step's network call is always where the step arrives: networks are not trained at
    sigma = 0. With compat every step's is, as in diffusers' ``DDIMInverseScheduler``, on the state
    of the step's begin.

    Attributes:
        iterations: Network calls per step that refine its end; 0 is the explicit walk: one call,
            where the step begins.
        strength: In (0, 1]: only the first steps from the data, as many as ``steps_run`` says.
    """

    like_ddim = True
    iterations: int = 1
    strength: float = 1.0

    def __call__(self, run: Run) -> Vector:
        x = run.x
        eps: Vector | None = None
        for now, then in run.steps:
            if run.compat:
                fed = dataclasses.replace(now, time=then.time, second=then.second)
                d = run.denoise(x, fed)
                x = then.alpha * d.x0 + then.sigma * d.raw_eps
                continue
            ratio = then.alpha / now.alpha
            c = then.sigma - ratio * now.sigma
            calls = self.iterations
            if now.sigma > 0.0 and (calls == 0 or eps is None):
                eps = run.denoise(x, now).eps
            base = x
            x = ratio * base if eps is None else ratio * base + c * eps
            for _ in range(calls or (now.sigma == 0.0)):
                eps = run.denoise(x, then).eps
                x = ratio * base + c * eps
        return x

    def steps_over(
        self,
        spec: DenoiserSpec,
        steps: int | None,
        grid: str | Grid | None,
        compat: str | None,
    ) -> Steps:
        """DDIM's steps, turned round."""
        pairs = DDIM().steps_over(spec, steps, grid, compat)
        turned = [(then, now) for now, then in reversed(pairs)]
        if turned[0][0].sigma == 0.0 and not compat:  # begin with alpha x0, noise of none
            arrive = turned[0][1]
            if arrive.alpha == 0.0:
                raise ProgramError(
                    "one step of inversion from data to pure noise, where alpha = 0, keeps nothing "
                    "of the data: use ",
                    Argument("steps", 2),
                    " or more, or a ",
                    Argument("grid"),
                    " whose first call is where alpha > 0",
                )
            turned[0] = dataclasses.replace(arrive, sigma=0.0), arrive
        return tuple(turned[: steps_run(len(turned), self.strength, compat, spec.schedule.kind)])


def inversion_program(
    spec: DenoiserSpec,
    steps: int | None = None,
    *,
    grid: str | Grid | None = None,
    compat: str | None = None,
    clip: bool | None = None,
    strength: float = 1.0,
    iterations: int = 1,
) -> StepProgram:
    """The program from data to noise; its initial state is the data, scaled by its first alpha.

    Raises:
        ValueError: An argument out of range.
        ProgramError: The network says nothing of the noise at some time of the walk.
    """
    walk = DDIMInversion(iterations, strength)
    program = build_program(
        spec, walk, steps, grid=grid, compat=compat, clip=clip, from_noise=False
    )
    alpha, sigma = program.start
    return dataclasses.replace(program, start=(alpha if sigma == 0.0 else 1.0, 0.0))


def noise_from(
    program: StepProgram, x: NDArray[np.float32], start: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """The z of a final state alpha y + sigma z.

    Args:
        program: The inversion's program; the state is at its last point.
        x: The state.
        start: y, of the shape of ``x``; None is y = 0.
    """
    end = program.points[-1]
    alpha, sigma = np.float32(end.alpha), np.float32(end.sigma)
    z = x / sigma if start is None else (x - alpha * start) / sigma
    return np.asarray(z, np.float32)
