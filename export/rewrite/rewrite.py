"""One rewrite: its name, why it is there, for which runtimes, and what it does to a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

RUNTIMES = ("onnxruntime", "openvino")


@dataclasses.dataclass(frozen=True, slots=True)
class Rewrite:
    """A change of a graph that keeps what it computes.

    Attributes:
        name: In lower case, words joined by underscores.
        reason: In one line, what a runtime gains by it.
        change: Changes a model whose values have their shapes, in place, and returns how many
            places it changed; none where it finds nothing. The model's inputs and outputs stay,
            and so do the bodies of control flow and functions.
        runtimes: Those on which it has been faster for a network.
    """

    name: str
    reason: str
    change: Callable[[ir.Model], int]
    runtimes: tuple[str, ...] = RUNTIMES
