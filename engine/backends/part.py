"""What a runtime gives of a network beside the denoiser: an opened graph, called with arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from revstep.engine.backends.signature import Port
from revstep.engine.bundle.layout import ROWS_OF_PARTS
from revstep.engine.errors import BackendError

ROWS_A_CALL = ROWS_OF_PARTS  # a few rows at once bound the memory


class PartGraph(Protocol):
    """A graph with named inputs and outputs, opened in a runtime. Thread-safe."""

    @property
    def inputs(self) -> Sequence[Port]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> Sequence[Port]:
        """What it gives, in the graph's order."""
        ...

    @property
    def rows(self) -> int:
        """Rows of a call, at most; any fewer are taken too."""
        ...

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """The outputs of inputs (rows, *shape) each, as arrays of the caller's.

        Raises:
            BackendError: The runtime failed.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """Backend, version and device."""
        ...


class OneRowPart:
    """A part that is called with one row at a time, so that no row's bits depend on others.

    Args:
        opened: The part.
    """

    rows = 1

    def __init__(self, opened: PartGraph) -> None:
        self.inputs, self.outputs = opened.inputs, opened.outputs
        self.run, self.describe = opened.run, opened.describe


def check_given(found: NDArray[Any], shape: tuple[int, ...], who: str) -> None:
    """Refuses an output of another shape, which numpy may broadcast.

    Raises:
        BackendError: It has one.
    """
    if found.shape != shape:
        raise BackendError(
            f"{who} gave the shape {found.shape} where {shape} was due: export the bundle again"
        )
