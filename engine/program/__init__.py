"""From a sampler to a table of numbers: points, tracing, history, samplers."""

from typing import TYPE_CHECKING

from revstep import moved

if not TYPE_CHECKING:
    __getattr__ = moved.names(__name__)
