"""Linear layers that read the same value, as one product whose columns are split.

Every block of a U-Net projects the same embedding of time and condition by a layer of its own: a
dozen small products, of which ONNX Runtime's fixed cost a node is the most. OpenVINO gains nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from revstep.export.rewrite.nodes import constant, initializer, nodes
from revstep.export.rewrite.rewrite import Rewrite


class Linear(NamedTuple):
    """A Gemm with constants: ``x weights^T + bias``.

    Attributes:
        node: The node.
        weights: (features, inputs).
        bias: (features,).
    """

    node: ir.Node
    weights: NDArray[Any]
    bias: NDArray[Any]


def join(model: ir.Model) -> int:
    """Joins the Gemms of each value that several read; the number of those that are gone."""
    found: dict[ir.Value, list[Linear]] = {}
    for node in nodes(model, "Gemm"):
        x, linear = node.inputs[0], _linear(node)
        if x is not None and linear is not None:
            found.setdefault(x, []).append(linear)
    joined = [(x, layers) for x, layers in found.items() if len(layers) > 1]
    for x, layers in joined:
        _write(model.graph, x, layers)
    return sum(len(layers) - 1 for _, layers in joined)


def _linear(node: ir.Node) -> Linear | None:
    weights = constant(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    plain = node.attributes.get_float("alpha", 1.0) == node.attributes.get_float("beta", 1.0) == 1.0
    if weights is None or weights.dtype != np.float32 or not plain:
        return None
    if node.attributes.get_int("transA", 0) or node.outputs[0].is_graph_output():
        return None
    if not node.attributes.get_int("transB", 0):
        weights = weights.T
    bias = np.zeros(len(weights), np.float32) if given is None else constant(given)
    if bias is None or bias.shape[:-1] not in {(), (1,)}:
        return None
    return Linear(node, weights, np.broadcast_to(bias.reshape(-1), len(weights)))


def _write(graph: ir.Graph, x: ir.Value, layers: list[Linear]) -> None:
    first = layers[0].node
    metadata = dict(first.metadata_props)
    name = f"{layers[0].node.outputs[0].name}_joined"
    weights = initializer(graph, np.concatenate([y.weights for y in layers]), f"{name}_weights")
    bias = initializer(graph, np.concatenate([y.bias for y in layers]), f"{name}_bias")
    widths = np.array([len(y.weights) for y in layers], np.int64)
    sizes = initializer(graph, widths, f"{name}_widths")
    product = ir.node("Gemm", [x, weights, bias], {"transB": 1}, metadata_props=metadata)
    whole = product.outputs[0]
    whole.type = first.outputs[0].type
    split = ir.node(
        "Split", [whole, sizes], {"axis": 1}, num_outputs=len(layers), metadata_props=metadata
    )
    graph.insert_before(first, [product, split])
    for (node, _, _), part in zip(layers, split.outputs, strict=True):
        out = node.outputs[0]
        part.name, part.type, part.shape = out.name, out.type, out.shape
        out.replace_all_uses_with(part)
        graph.remove(node, safe=True)


JOINED_LINEAR = Rewrite(
    "joined_linear",
    "Linear layers of the same value are one product: ONNX Runtime's fixed cost a node, once",
    join,
    runtimes=("onnxruntime",),
)
