"""What is known of a network besides its weights: spec, schedule, grids, prediction."""

from typing import TYPE_CHECKING

from revstep import moved

if not TYPE_CHECKING:
    __getattr__ = moved.names(__name__)
