"""Time grids, what ``spacing`` takes: at which times a run calls the network."""

from revstep.engine.spec import grids as _room
from revstep.engine.spec.grids import *  # noqa: F403

__all__ = _room.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
