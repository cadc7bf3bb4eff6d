"""A graph of 16-bit (or 64-bit) floats in float32: its weights, constants and casts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

FLOAT = ir.DataType.FLOAT
DTYPE_ATTRIBUTES = (  # of ONNX's operators
    "to", "dtype", "output_dtype", "output_datatype", "softmax_precision", "stash_type",
)  # fmt: skip


def widen(model: ir.Model, dtypes: tuple[ir.DataType, ...]) -> None:
    """Makes float32 of every float of ``dtypes``, in place.

    Weights are converted as they are saved.
    """
    for graph in model.graphs():
        for weight in graph.initializers.values():
            if weight.dtype in dtypes and weight.const_value is not None:
                weight.const_value = _converted(weight.const_value)
        for value in _values(graph):
            if value.dtype in dtypes:
                value.dtype = FLOAT
        for node in graph:
            _widen_attributes(node, dtypes)


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _widen_attributes(node: ir.Node, dtypes: tuple[ir.DataType, ...]) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype in dtypes:
                node.attributes[name] = ir.AttrTensor(name, _converted(tensor))
        elif attribute.type == ir.AttributeType.INT and name in DTYPE_ATTRIBUTES:
            node.attributes[name] = ir.AttrInt64(
                name, int(FLOAT) if attribute.as_int() in dtypes else attribute.as_int()
            )


def _converted(source: ir.TensorProtocol) -> ir.TensorProtocol:
    def make() -> ir.TensorProtocol:
        return ir.Tensor(source.numpy().astype(np.float32), name=source.name)

    return ir.LazyTensor(make, dtype=FLOAT, shape=ir.Shape(source.shape.numpy()), name=source.name)
