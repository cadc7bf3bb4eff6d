"""One module as one ONNX graph, checked."""

from typing import TYPE_CHECKING

from revstep import moved

if not TYPE_CHECKING:
    __getattr__ = moved.names(__name__)
