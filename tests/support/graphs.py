"""Small float32 graphs written as text, as the precision passes take them."""

import numpy as np
import onnx
import onnx_ir as ir
from onnx.parser import parse_model

HEAD = '<ir_version: 10, opset_import: ["" : 20]>\n'


def graph(nodes, inputs="float[N,4] x, float[N] t", **weights):
    """A model of ``nodes`` from ``inputs`` to ``out`` (N, 4), its values' types known.

    ``weights`` are arrays, lists or numbers by name.
    """
    proto = parse_model(f"{HEAD}g ({inputs}) => (float[N,4] out) {{\n{nodes}\n}}")
    for name, value in weights.items():
        kind = None if isinstance(value, np.ndarray) else np.float32
        tensor = onnx.numpy_helper.from_array(np.asarray(value, kind), name)
        proto.graph.initializer.append(tensor)
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{number}"
    onnx.checker.check_model(proto, full_check=True)
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))


def named(nodes, model):
    """The operators of nodes, in the graph's order."""
    return [n.op_type for n in model.graph if n in nodes]
