"""One number for all rows of a graph, made one of each row.

Most files with a time () or (1,) spread it over the rows themselves: ``timestep[None].expand(B)``.
Fed (B,) in its place, what only shaped the one number is taken out; whether the graph then gives
every row what the file gives it alone is for its caller to check.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

# Of these, a result has the elements of the one input that is no constant.
ELEMENTWISE = frozenset(
    {"Add", "Cast", "Ceil", "Clip", "Div", "Exp", "Floor", "Identity", "Log", "Max", "Min", "Mul",
     "Neg", "Pow", "Reciprocal", "Round", "Sqrt", "Sub"}
)  # fmt: skip


def spread(graph: ir.Graph, value: ir.Value, rank: int) -> None:
    """Makes what follows from a value, which had ``rank`` axes of length 1, one number of each row.

    Args:
        graph: Sorted, of opset 13 or later; changed in place.
        value: (rows,) now.
        rank: How many axes it had: 0 or 1.
    """
    ranks: dict[ir.Value, int] = {value: rank}
    for node in list(graph):
        sources = [v for v in node.inputs if v in ranks]
        if not sources:
            continue
        others = [v for v in node.inputs if v is not None and v not in ranks]
        before = max(ranks[v] for v in sources if v is not None)
        if node.op_type in ELEMENTWISE and all(_one_number(v) for v in others):
            ranks[node.outputs[0]] = max([before, *(_rank(v) for v in others)])
        elif (after := _shaped(node, before)) is not None:
            shape = np.array([-1, *[1] * (after - 1)], np.int64)
            weight = ir.Value(
                name=f"{node.outputs[0].name}/rows",
                shape=ir.Shape(shape.shape),
                type=ir.TensorType(ir.DataType.INT64),
                const_value=ir.Tensor(shape, name=f"{node.outputs[0].name}/rows"),
            )
            graph.register_initializer(weight)
            node.op_type = "Reshape"
            node.attributes.clear()
            node.resize_inputs(2)
            node.replace_input_with(1, weight)


def _shaped(node: ir.Node, rank: int) -> int | None:
    """The axes after a node that only adds axes of length 1; None of any other."""
    given = _numbers(node.inputs[1]) if len(node.inputs) > 1 else None
    if given is None:
        return None
    if node.op_type == "Unsqueeze":
        return rank + given.size
    if node.op_type == "Reshape" and given.size and np.all(np.abs(given) == 1):
        return int(given.size)
    return None


def _one_number(value: ir.Value) -> bool:
    numbers = _numbers(value)
    return numbers is not None and numbers.size == 1 and numbers.ndim <= 1


def _rank(value: ir.Value) -> int:
    numbers = _numbers(value)
    return 0 if numbers is None else numbers.ndim


def _numbers(value: ir.Value | None) -> NDArray[Any] | None:
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()
