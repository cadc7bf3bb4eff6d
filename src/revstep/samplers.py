"""The samplers, and what a sampler of your own is written with (docs/own-sampler.md)."""

from revstep.engine.program import samplers as _room
from revstep.engine.program.points import Point, lambda_point
from revstep.engine.program.samplers import *  # noqa: F403
from revstep.engine.program.trace import Estimate, Run, Sampler
from revstep.engine.program.vector import Vector

__all__ = ["Estimate", "Point", "Run", "Sampler", "Vector", "lambda_point"]
__all__ += _room.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
