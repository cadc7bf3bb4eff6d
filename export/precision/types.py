"""The rewriting of a float32 graph to mixed types, and a mixed graph's emulation in float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from revstep.export.precision.nodes import SHAPES, Kept, can_turn, low_ports

FLOAT = ir.DataType.FLOAT
INLINE = 1536 << 20  # bytes of weights in the file itself; protobuf ends at 2 GiB


def reduce_types(graph: ir.Graph, kept: Kept, low: ir.DataType) -> int:
    """Turns the nodes that are not ``kept`` to ``low``, with a Cast wherever two types meet.

    Weights are cast as they are saved, inputs and outputs of the graph stay float32, and every
    node keeps its name and its line; a Cast has those of the node that made its input.

    The graph, with types of all values, is changed in place.

    Returns:
        How many nodes turned.
    """
    values = (v for node in graph for v in (*node.inputs, *node.outputs) if v is not None)
    wide = dict.fromkeys(v for v in values if v.dtype == FLOAT)  # in order: files are the same
    ports = {node: low_ports(node, low) for node in can_turn(graph, kept, low)}
    for node, (_, outputs) in ports.items():
        for i in outputs:
            node.outputs[i].dtype = low
    for value in wide:
        _meet(graph, value, low, ports)
    _outputs(graph)
    return len(ports)


def _meet(
    graph: ir.Graph,
    value: ir.Value,
    low: ir.DataType,
    ports: dict[ir.Node, tuple[list[int], list[int]]],
) -> None:
    """Gives each consumer of a value the type that it computes in."""
    others: list[tuple[ir.Node, int]] = []
    same = value.is_graph_output() and value.dtype == FLOAT
    for use in value.uses():
        wanted = low if use.idx in ports.get(use.node, ((), ()))[0] else FLOAT
        if wanted == value.dtype or use.node.op_type in SHAPES:
            same = True
        else:
            others.append((use.node, use.idx))
    if not others:
        return
    turned = low if value.dtype == FLOAT else FLOAT
    if value.const_value is not None and value.is_initializer():
        new = _cast_weight(graph, value, turned, in_place=not same)
    else:
        new = _cast_after(graph, value, turned)
    for node, index in others:
        node.replace_input_with(index, new)


def _cast_weight(
    graph: ir.Graph, value: ir.Value, dtype: ir.DataType, *, in_place: bool
) -> ir.Value:
    """A weight in another type: the value itself, or one beside it."""
    source = value.const_value
    assert source is not None
    name = value.name if in_place else f"{value.name}/{dtype.name.lower()}"
    assert name is not None
    tensor = _converted(source, dtype, name)
    if in_place:
        value.const_value, value.dtype = tensor, dtype
        return value
    new = ir.Value(name=name, shape=value.shape, type=ir.TensorType(dtype), const_value=tensor)
    graph.register_initializer(new)
    return new


def _converted(source: ir.TensorProtocol, dtype: ir.DataType, name: str) -> ir.LazyTensor:
    """The tensor in another type, computed when it is saved: memory holds one at a time."""

    def make() -> ir.TensorProtocol:
        values: NDArray[np.float32] = source.numpy()
        with np.errstate(over="ignore"):
            return ir.Tensor(values.astype(dtype.numpy()), dtype=dtype, name=name)

    return ir.LazyTensor(make, dtype=dtype, shape=ir.Shape(source.numpy().shape), name=name)


def _cast_after(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A Cast right after the value's producer, or at the beginning for an input."""
    producer = value.producer()
    node = ir.Node(
        "",
        "Cast",
        [value],
        [ir.AttrInt64("to", int(dtype))],
        name=f"cast/{value.name}/{dtype.name.lower()}",
        metadata_props=dict(producer.metadata_props) if producer is not None else None,
    )
    out = node.outputs[0]
    out.name = f"{value.name}/{dtype.name.lower()}"
    out.shape, out.dtype = value.shape, dtype
    if producer is not None:
        assert producer.graph is not None
        producer.graph.insert_after(producer, node)
    else:
        graph.insert_before(graph[0], node)
    return out


def _outputs(graph: ir.Graph) -> None:
    """Brings the graph's outputs back to float32, under their names."""
    for number, value in enumerate(graph.outputs):
        if value.dtype in (FLOAT, None) or value.producer() is None:
            continue
        name, shape = value.name, value.shape
        value.name = f"{name}/{value.dtype.name.lower()}"  # first: the cast is named after it
        out = _cast_after(graph, value, FLOAT)
        out.name, out.shape = name, shape
        graph.outputs[number] = out


def emulate(graph: ir.Graph, low: ir.DataType) -> None:
    """Computes a mixed graph in float32, each 16-bit value rounded where it is made.

    That is what tensor cores do: products of 16 bits, sums in float32, a rounded result. A CPU's
    ONNX Runtime has no bfloat16 products, and runs float16 in float32 with fewer roundings.
    """
    for weight in graph.initializers.values():
        if weight.dtype == low and weight.const_value is not None and weight.name:
            weight.const_value = _converted(weight.const_value, FLOAT, weight.name)
            weight.dtype = FLOAT
    for node in list(graph):
        for value in node.outputs:
            if value.dtype == low:
                _round(graph, node, value, low)


def _round(graph: ir.Graph, node: ir.Node, value: ir.Value, low: ir.DataType) -> None:
    if node.op_type == "Cast":  # rounds by itself
        rounded = value
    else:
        value.dtype = FLOAT
        uses = list(value.uses())
        rounded = _cast_after(graph, value, low)
        for use in uses:
            use.node.replace_input_with(use.idx, rounded)
    uses = list(rounded.uses())
    back = _cast_after(graph, rounded, FLOAT)
    for use in uses:
        use.node.replace_input_with(use.idx, back)


def save_graph(model: ir.Model, path: Path) -> None:
    """Writes a model, its weights in a file beside it where protobuf could not hold them."""
    weights = (v.const_value for v in model.graph.initializers.values())
    large = sum(w.nbytes for w in weights if w is not None) > INLINE
    ir.save(model, path, external_data=f"{path.name}.data" if large else None)
