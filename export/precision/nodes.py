"""Which nodes of a float32 graph may compute in 16 bits, and why the others may not."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx
import onnx_ir as ir

Kept: TypeAlias = dict[ir.Node, str]
"""The nodes that stay float32, with the reason."""

REASONS = {
    "embedding": "computed from the time and the conditions alone",
    "norm": "normalisation, or a sum over many values",
    "softmax": "softmax, exponential or logarithm",
    "periodic": "a sine or cosine",
    "range": "overflows on the recorded trajectory, or a constant out of range",
    "unsupported": "the operator has no such type",
    "edge": "elementwise beside the float32 input or output",
    "between": "nothing but float32 nodes around it",
    "accuracy": "needed for the bound",
}
PRODUCTS = frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "Einsum"})
SHAPES = frozenset({"Shape", "Size"})  # they read no values
CLASSES = {
    "norm": (
        "InstanceNormalization", "GroupNormalization", "LayerNormalization", "BatchNormalization",
        "LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "LRN", "ReduceMean",
        "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum",
        "ReduceLogSumExp", "ReduceProd", "CumSum", "Pow", "Sqrt", "Reciprocal", "DFT", "STFT",
    ),
    "softmax": ("Softmax", "LogSoftmax", "Exp", "Log"),
    "periodic": ("Sin", "Cos", "Tan"),
}  # fmt: skip
CLASS = {op: reason for reason, ops in CLASSES.items() for op in ops}
NO_BF16 = frozenset({"Mish", "ConvTranspose"})  # which TensorRT-RTX 1.7 can't build
HEADROOM = 8.0  # over the largest value met: other noise, guidance and conditions
SMALLEST = 2.0**-14  # fp16's smallest normal: 1e-8 becomes 0
LARGEST = {ir.DataType.FLOAT16: 65504.0, ir.DataType.BFLOAT16: 3.3895e38}
NAMES = {ir.DataType.FLOAT16: "tensor(float16)", ir.DataType.BFLOAT16: "tensor(bfloat16)"}
FLOAT = ir.DataType.FLOAT


def keep(
    graph: ir.Graph, ranges: Mapping[str, float], low: ir.DataType, states: Collection[str]
) -> Kept:
    """The nodes that stay float32, by what they are and by what was measured.

    The graph is sorted, with types of all values; ``ranges`` has the largest finite absolute value
    met of each, and ``states`` names the inputs that are more than a time or a condition.

    Returns:
        The reason of every node that has a float32 result of float32 inputs and stays so.
    """
    kept: Kept = {}
    embedding = _embedding(graph, states)
    for node in graph:
        if not _floats(node.inputs) or not _floats(node.outputs):
            continue
        if not any(low_ports(node, low)):
            kept[node] = "unsupported"
        elif node in embedding:
            kept[node] = "embedding"
        elif node.op_type in CLASS:
            kept[node] = CLASS[node.op_type]
        elif not _in_range(node, ranges, low):
            kept[node] = "range"
    kept |= dict.fromkeys([*_head(graph, kept), *_tail(graph, kept)], "edge")
    return kept | dict.fromkeys(_between(graph, kept), "between")


def products(graph: ir.Graph, kept: Kept) -> list[ir.Node]:
    """The matrix products and convolutions that are not kept, in the graph's order."""
    return [n for n in graph if n.op_type in PRODUCTS and n not in kept and _floats(n.outputs)]


def can_turn(graph: ir.Graph, kept: Kept, low: ir.DataType) -> list[ir.Node]:
    """The nodes that turn where ``kept`` stay float32, in the graph's order."""
    return [n for n in graph if n not in kept and any(low_ports(n, low))]


def low_ports(node: ir.Node, low: ir.DataType) -> tuple[list[int], list[int]]:
    """The numbers of a node's inputs and outputs that turn to ``low`` together; empty if none can.

    They are those of one type variable with the outputs: a Resize's scales stay float32.
    """
    schema = _schema(node)
    if schema is None or (low == ir.DataType.BFLOAT16 and node.op_type in NO_BF16):
        return [], []
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    outputs = [i for i, v in enumerate(node.outputs) if _is_float(v)]
    kinds = {_formal(schema.outputs, i).type_str for i in outputs}
    if not outputs or any(NAMES[low] not in allowed.get(kind, ()) for kind in kinds):
        return [], []
    inputs = [
        i
        for i, v in enumerate(node.inputs)
        if _is_float(v) and _formal(schema.inputs, i).type_str in kinds
    ]
    return (inputs, outputs) if inputs else ([], [])


def _schema(node: ir.Node) -> onnx.defs.OpSchema | None:
    """The operator's schema; None for a function, another domain, or one with subgraphs."""
    inner = {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}
    assert isinstance(node.graph, ir.Graph)
    if node.domain or any(a.type in inner for a in node.attributes.values()):
        return None
    try:
        return onnx.defs.get_schema(node.op_type, node.graph.opset_imports[""], "")
    except onnx.defs.SchemaError:
        return None


def _formal(
    formals: Sequence[onnx.defs.OpSchema.FormalParameter], index: int
) -> onnx.defs.OpSchema.FormalParameter:
    return formals[min(index, len(formals) - 1)]  # the last may be variadic


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == FLOAT


def _floats(values: Iterable[ir.Value | None]) -> list[ir.Value]:
    return [v for v in values if v is not None and v.dtype == FLOAT]


def _in_range(node: ir.Node, ranges: Mapping[str, float], low: ir.DataType) -> bool:
    """Whether what the node reads and makes fits the type, with headroom for what was measured."""
    inputs, outputs = low_ports(node, low)
    for value in [*(node.inputs[i] for i in inputs), *(node.outputs[i] for i in outputs)]:
        assert value is not None
        if value.const_value is not None:
            if not _constant_fits(value.const_value, low):
                return False
        elif ranges.get(value.name or "", 0.0) * HEADROOM > LARGEST[low]:
            return False
    return True


def _constant_fits(tensor: ir.TensorProtocol, low: ir.DataType) -> bool:
    """No finite value beyond the type; of a single number, none that it would flush."""
    values = tensor.numpy()
    low_end, high_end = float(values.min(initial=0.0)), float(values.max(initial=0.0))
    if not math.isfinite(high_end - low_end):  # minus infinity is a mask's: every type has it
        finite = values[np.isfinite(values)]
        low_end, high_end = float(finite.min(initial=0.0)), float(finite.max(initial=0.0))
    size = max(-low_end, high_end)
    flushed = low == ir.DataType.FLOAT16 and values.size == 1 and 0.0 < size < SMALLEST
    return size <= LARGEST[low] and not flushed


def _embedding(graph: ir.Graph, states: Collection[str]) -> set[ir.Node]:
    """The nodes computed from times, conditions and constants alone: float32 costs little there.

    Up to products that would cost: over tokens or pixels, and a block's own projection of an
    embedding that another product made (a third of a DiT's weights); what follows is ordinary.
    """
    touched = {v for v in graph.inputs if v.name in states}
    for node in graph:
        if node.op_type not in SHAPES and any(v in touched for v in node.inputs):
            touched.update(node.outputs)
    alone = [n for n in graph if not any(v in touched for v in node_values(n))]
    after = _reach(alone, forward=True)
    before = _reach(reversed(alone), forward=False)
    inside: set[ir.Node] = set()
    outside: set[ir.Value] = set()
    for node in alone:
        rank = max((len(v.shape) for v in node.outputs if v.shape is not None), default=0)
        costly = node.op_type in PRODUCTS and (rank > 2 or (node in after and node not in before))
        if costly or any(v in outside for v in node.inputs):
            outside.update(node.outputs)
        else:
            inside.add(node)
    return inside


def node_values(node: ir.Node) -> list[ir.Value]:
    """A node's values that carry data: all but what only a shape is read of."""
    inputs = [] if node.op_type in SHAPES else [v for v in node.inputs if v is not None]
    return [*inputs, *node.outputs]


def _reach(nodes: Iterable[ir.Node], *, forward: bool) -> set[ir.Node]:
    """The nodes with a product before them (``forward``: nodes in order) or after (reversed)."""
    found: set[ir.Node] = set()
    marked: set[ir.Value | None] = set()
    for node in nodes:
        source: Sequence[ir.Value | None] = node.inputs if forward else node.outputs
        target: Sequence[ir.Value | None] = node.outputs if forward else node.inputs
        hit = any(v in marked for v in source)
        if hit:
            found.add(node)
        if hit or node.op_type in PRODUCTS:
            marked.update(v for v in target if v is not None)
    return found


def _head(graph: ir.Graph, kept: Kept) -> list[ir.Node]:
    """Elementwise nodes fed by the graph's inputs and embeddings alone: scaled states."""
    wide = {v for v in graph.inputs if _is_float(v)}
    found = []
    for node in graph:
        inputs = [v for v in _floats(node.inputs) if v.const_value is None]
        if kept.get(node) == "embedding" or not _floats(node.inputs):
            wide.update(node.outputs)
        elif node not in kept and _elementwise(node) and all(v in wide for v in inputs):
            wide.update(node.outputs)
            if _floats(node.outputs):
                found.append(node)
    return found


def _tail(graph: ir.Graph, kept: Kept) -> list[ir.Node]:
    """Elementwise nodes that lead to the graph's output alone."""
    found: set[ir.Node] = set()
    for node in reversed(graph):
        if node in kept or not _elementwise(node) or not _floats(node.outputs):
            continue
        outputs = _floats(node.outputs)
        if all(v.is_graph_output() or v.uses() for v in outputs) and all(
            use.node in found for v in outputs for use in v.uses()
        ):
            found.add(node)
    return list(found)


def _between(graph: ir.Graph, kept: Kept) -> set[ir.Node]:
    """Elementwise nodes with float32 nodes alone on both sides: two casts would gain nothing."""
    candidates = [n for n in graph if n not in kept and _elementwise(n) and _floats(n.outputs)]
    found = set(candidates)
    while True:
        wide = kept.keys() | found
        inner = {n for n in found if _fed_by(n, wide) and _feeds(n, wide)}
        if inner == found:
            return found
        found = inner


def _fed_by(node: ir.Node, wide: set[ir.Node]) -> bool:
    sources = [v for v in _floats(node.inputs) if v.const_value is None]
    made = [v.producer() for v in sources]
    return bool(made) and all(p is None or p in wide or not _floats(p.inputs) for p in made)


def _feeds(node: ir.Node, wide: set[ir.Node]) -> bool:
    uses = [u.node for v in _floats(node.outputs) for u in v.uses()]
    return all(n in wide or n.op_type in SHAPES or not _floats(n.outputs) for n in uses)


def _elementwise(node: ir.Node) -> bool:
    return node.op_type not in PRODUCTS
