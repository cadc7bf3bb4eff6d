"""Which tables of a graph the values of an integer condition index, read from the graph."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

# Of these, every element of the first input is in the result, as it is.
SAME = frozenset(
    {"Cast", "Clip", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Tile", "Transpose",
     "Unsqueeze"}
)  # fmt: skip
PART = frozenset({"Gather", "GatherND", "Slice", "Split"})  # of these, some elements are
SMALL = 1 << 16  # elements of constants that are read


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Table:
    """A table of ``size`` rows that is read at the condition's value plus ``shift``.

    With ``whole``, every element of the condition is used so; else some are.
    """

    size: int
    shift: int = 0
    whole: bool = True


def index_tables(path: Path, names: set[str]) -> dict[str, list[Table]]:
    """Of each input, the tables that its elements index, in a graph file.

    Followed are operators that keep elements as they are, sums with one number, clipping, and
    joining with others; not what chooses by a mask. Whether a value outside a table is an error is
    not the graph's to say: it may be clipped.
    """
    graph = onnx.load(str(path), load_external_data=False).graph
    reader = _Reader(graph)
    found: dict[str, set[Table]] = {name: set() for name in names}
    for node in graph.node:
        size = reader.rows(node)
        if size is None:
            continue
        index = node.input[0] if node.op_type == "Equal" else node.input[1]
        for name, shift, whole in reader.sources(index):
            if name in found:
                found[name].add(Table(size, shift, whole))
    return {name: sorted(tables) for name, tables in found.items()}


class _Reader:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._constants = {i.name: i for i in graph.initializer}
        self._inputs = {i.name for i in graph.input}
        self._shapes: dict[str, list[int | None]] = {
            v.name: [d.dim_value if d.HasField("dim_value") else None for d in dims.dim]
            for v in (*graph.value_info, *graph.input)
            if (dims := v.type.tensor_type.shape) is not None
        }
        self._shapes |= {i.name: list(i.dims) for i in graph.initializer}

    def rows(self, node: onnx.NodeProto) -> int | None:
        """Rows of the table that a node indexes; None of any other node."""
        if node.op_type == "Equal":  # with 0, 1, ..., n - 1: one-hot vectors
            values = self._constant(node.input[1])
            if values is None or values.ndim != 1 or len(values) < 2:
                return None
            return len(values) if np.array_equal(values, np.arange(len(values))) else None
        if node.op_type not in ("Gather", "GatherElements", "GatherND"):
            return None
        attributes = {a.name: a.i for a in node.attribute}
        axis = attributes.get("batch_dims" if node.op_type == "GatherND" else "axis", 0)
        shape = self._shapes.get(node.input[0], [])
        return shape[axis] if -len(shape) <= axis < len(shape) else None

    def sources(self, name: str, shift: int = 0, whole: bool = True) -> list[tuple[str, int, bool]]:
        """The inputs in a tensor: each with what was added to it, and whether it is there whole."""
        if name in self._inputs:
            return [(name, shift, whole)]
        node = self._made_by.get(name)
        if node is None:
            return []
        if node.op_type in SAME or node.op_type in PART:
            return self.sources(node.input[0], shift, whole and node.op_type in SAME)
        if node.op_type == "Concat":
            return [found for part in node.input for found in self.sources(part, shift, whole)]
        if node.op_type in ("Add", "Sub") and (number := self._number(node.input[1])) is not None:
            added = number if node.op_type == "Add" else -number
            return self.sources(node.input[0], shift + added, whole)
        if node.op_type == "Add" and (number := self._number(node.input[0])) is not None:
            return self.sources(node.input[1], shift + number, whole)
        return []

    def _number(self, name: str) -> int | None:
        values = self._constant(name)
        if values is None or not values.size or values.dtype.kind not in "iu":
            return None
        first = int(values.flat[0])
        return first if np.all(values == first) else None

    def _constant(self, name: str) -> NDArray[Any] | None:
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        if int(np.prod(tensor.dims)) > SMALL:
            return None
        return numpy_helper.to_array(tensor)
