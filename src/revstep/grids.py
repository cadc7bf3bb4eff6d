"""Time grids, what ``grid=`` takes: at which times a run calls the network."""

from typing import TYPE_CHECKING

from revstep import moved
from revstep.engine.spec import grids as _room
from revstep.engine.spec.grids import *  # noqa: F403

__all__ = _room.__all__


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:
    __getattr__ = moved.names(__name__)
