"""Reduced precision as a pass over the float32 graph."""

from typing import TYPE_CHECKING

from revstep import moved

if not TYPE_CHECKING:
    __getattr__ = moved.names(__name__)
