"""RePaint: inpainting that walks back and forth.

References:
    Lugmayr et al., "RePaint: inpainting using denoising diffusion probabilistic models", 2022,
    arXiv:2201.09865.
"""

from __future__ import annotations

import dataclasses
import math

from revstep.engine.checks import check_number, check_whole
from revstep.engine.program.samplers.base import BaseSampler
from revstep.engine.program.samplers.ddim import ancestral_sigma
from revstep.engine.program.trace import Run
from revstep.engine.program.vector import Vector


def jump_schedule(steps: int, jump_length: int, repeats: int) -> list[int]:
    """Grid positions in the order they are visited, from ``steps - 1`` down to -1, the clean end.

    The authors' ``get_schedule_jump``: whenever a multiple of ``jump_length`` is reached, the walk
    goes ``jump_length`` positions up again, ``repeats - 1`` times each.
    """
    jumps = dict.fromkeys(range(0, steps - jump_length, jump_length), repeats - 1)
    at, visited = steps - 1, [steps - 1]
    while at >= 0:
        if jumps.get(at, 0) > 0:
            jumps[at] -= 1
            at += jump_length
        else:
            at -= 1
        visited.append(at)
    return visited


@dataclasses.dataclass(frozen=True)
class RePaint(BaseSampler):
    r"""DDPM steps that go down, and up again by noising, so that a hole agrees with its surround.

    A step down is DDIM's with eta (1: DDPM). Going up from s to t is (algorithm 1, line 10, over
    jump_length steps at once)

    .. math:: x_t = r\, x_s + \sqrt{\beta}\, z

    It is folded into the step before it, with the two noises as one of the summed variance, so it
    costs no network call. The known pixels arrive at t too, which is the same law as noising them
    at s for a mask of 0 and 1::

        engine.sample(mask=mask, known=photo, sampler=RePaint(jump_length=5, repeats=5), steps=50)

    The hole's law approaches the conditional one as repeats and steps grow; it is not exact.

    Attributes:
        jump_length: Steps that a jump goes up (j in the paper).
        repeats: How often each stretch is walked (r in the paper); 1 is no resampling. The network
            is called about that many times more often.
        eta: Noise of the steps down.
    """

    jump_length: int = 10
    repeats: int = 10
    eta: float = 1.0

    def __post_init__(self) -> None:
        check_whole(self.jump_length, "jump_length", 1)
        check_whole(self.repeats, "repeats", 1)
        check_number(self.eta, "eta", 0.0, 1.0)

    def __call__(self, run: Run) -> Vector:
        points = [*(then for _, then in reversed(run.steps)), run.steps[0][0]]  # by position + 1
        visited = jump_schedule(len(run.steps), self.jump_length, self.repeats)
        x = run.x
        for now, then, after in zip(visited[:-1], visited[1:], [*visited[2:], -1], strict=True):
            if then > now:
                continue  # a jump: folded into the step before
            t, s = points[now + 1], points[then + 1]
            d = run.denoise(x, t)
            std = 0.0 if then < 0 else self.eta * ancestral_sigma(t, s)
            x = s.alpha * d.x0 + math.sqrt(max(s.sigma**2 - std**2, 0.0)) * d.eps
            if after > then:
                up = points[after + 1]
                ratio = up.alpha / s.alpha
                added = max(up.sigma**2 - ratio**2 * s.sigma**2, 0.0)
                x, std = ratio * x, math.sqrt(ratio**2 * std**2 + added)
            x = x + std * run.noise()
        return x
