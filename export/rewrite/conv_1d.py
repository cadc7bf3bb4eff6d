"""1-D convolutions as 2-D ones of height 1, and what lies between them with four axes too."""

from __future__ import annotations

import onnx_ir as ir

from revstep.export.rewrite.height_one import Twins, follow
from revstep.export.rewrite.nodes import constant, initializer, nodes, rank
from revstep.export.rewrite.rewrite import Rewrite
from revstep.export.rewrite.shapes import constant_shapes

KINDS = ("Conv", "ConvTranspose")


def conv_2d(model: ir.Model) -> int:
    """Gives every 1-D convolution with constant weights a height, and all that follows it."""
    if not any(_is_1d(node) for node in nodes(model, *KINDS)):
        return 0
    constant_shapes(model)  # a Shape would read what has no other use
    twins, found = Twins(model.graph), 0
    for node in list(model.graph):
        if node.graph is None or node.domain != "":  # lifted meanwhile, or not ONNX's own
            continue
        if node.op_type not in KINDS:
            follow(twins, node)
        elif _is_1d(node):
            found += twins.lift(node, _weights(model.graph, node))
    return found


def _is_1d(node: ir.Node) -> bool:
    """Whether this is a convolution over one axis, with constant weights."""
    weights = constant(node.inputs[1])
    return weights is not None and weights.ndim == 3 and rank(node.inputs[0]) == 3


def _weights(graph: ir.Graph, node: ir.Node) -> ir.Value:
    """(M, C, K) as (M, C, 1, K)."""
    given, value = constant(node.inputs[1]), node.inputs[1]
    assert given is not None
    assert value is not None
    return initializer(graph, given[:, :, None], f"{value.name}_2d")


CONV_2D = Rewrite(
    "conv_2d",
    "1-D convolutions become 2-D: ONNX Runtime has its blocked layout for two axes only",
    conv_2d,
    runtimes=("onnxruntime",),
)
