"""The errors of failed builds, loads and runs; a wrong argument is a ValueError or TypeError."""

from revstep.engine import errors as _room
from revstep.engine.errors import *  # noqa: F403

__all__ = _room.__all__


def __dir__() -> list[str]:
    return sorted(__all__)
