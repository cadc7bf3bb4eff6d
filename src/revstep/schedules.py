"""Noise schedules, what ``DenoiserSpec(schedule=...)`` takes."""

from revstep.engine.spec import schedule as _room
from revstep.engine.spec.schedule import *  # noqa: F403

__all__ = _room.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
