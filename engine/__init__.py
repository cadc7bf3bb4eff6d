"""The runtime: samplers as programs, the loop, and the engine that runs a bundle."""

from typing import TYPE_CHECKING

from revstep import moved

if not TYPE_CHECKING:  # what was here is in ``revstep`` and its namespaces
    __getattr__ = moved.names(__name__)
