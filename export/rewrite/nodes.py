"""What rewrites are made of: nodes put before another, constants, known shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


def nodes(model: ir.Model, *kinds: str) -> list[ir.Node]:
    """The nodes of ONNX's own operators of these kinds, in the main graph's order."""
    return [n for n in model.graph if n.domain == "" and n.op_type in kinds]


def constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The array of a value that is the same in every call, None of another.

    An initializer that is an input too can be replaced by a caller: it is none.
    """
    if value is None or value.is_graph_input():
        return None
    tensor = ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def axes_of(node: ir.Node) -> list[int] | None:
    """The constant axes of a Squeeze or Unsqueeze of opset 13 or later."""
    given = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if given is None else [int(a) for a in given.reshape(-1)]


def rank(value: ir.Value | None) -> int | None:
    """The number of a value's axes, where it is known."""
    return None if value is None or value.shape is None else len(value.shape)


def sole_user(value: ir.Value) -> ir.Node | None:
    """The only node that reads a value, None where several do, or the graph gives it out."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


class Before:
    """Puts nodes before another one, in the order of the calls.

    Args:
        node: A node of the main graph; new ones keep its metadata, which names the module's line.
    """

    def __init__(self, node: ir.Node) -> None:
        assert isinstance(node.graph, ir.Graph)
        self._node = node
        self._graph = node.graph

    def op(
        self, kind: str, *inputs: ir.Value | None, like: ir.Value, **attributes: Any
    ) -> ir.Value:
        """The output of a new node, of the element type and shape of ``like``."""
        made = ir.node(
            kind, list(inputs), attributes, metadata_props=dict(self._node.metadata_props)
        )
        out = made.outputs[0]
        out.type, out.shape = like.type, like.shape
        self._graph.insert_before(self._node, made)
        return out

    def shaped(
        self, kind: str, *inputs: ir.Value | None, like: ir.Value, shape: Any, **attributes: Any
    ) -> ir.Value:
        """``op`` of another shape: a list of sizes, None where it is not known."""
        out = self.op(kind, *inputs, like=like, **attributes)
        out.shape = None if shape is None else ir.Shape(shape)
        return out

    def constant(self, array: NDArray[Any] | list[int], name: str) -> ir.Value:
        """A new initializer; of a list of whole numbers, as shapes and axes are, an int64 one."""
        whole = np.asarray(array, np.int64) if isinstance(array, list) else array
        return initializer(self._graph, whole, name)

    def instead(self, value: ir.Value) -> None:
        """Makes ``value`` what the node's only output was, and removes the node."""
        out = self._node.outputs[0]
        value.name, value.type, value.shape = out.name, out.type, out.shape
        out.replace_all_uses_with(value, replace_graph_outputs=True)
        self._graph.remove(self._node, safe=True)


def initializer(graph: ir.Graph, array: NDArray[Any], name: str) -> ir.Value:
    """An initializer of the graph with this content: the one that is there, or a new one."""
    wanted, number = name, 0
    while (found := graph.initializers.get(wanted)) is not None:
        there = constant(found)
        if there is not None and there.dtype == array.dtype and _same(there, array):
            return found
        number += 1
        wanted = f"{name}_{number}"
    tensor = ir.tensor(array.copy(order="C"), name=wanted)
    made = ir.Value(
        name=wanted,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(array.shape),
        const_value=tensor,
    )
    graph.register_initializer(made)
    return made


def _same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()
