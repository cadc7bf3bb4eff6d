"""1-D convolutions as 2-D ones of height 1.

A value (N, C, L) gets a *twin* (N, C, 1, L). A node that is lifted reads and gives twins; each of
its outputs is a Squeeze of the twin, which goes where nothing reads it. So convolutions that meet,
or have only nodes between them that are lifted too, have no Squeeze and Unsqueeze between them.

Element by element only what ONNX Runtime fuses or does in the blocked layout is lifted. Its
broadcasting with a number takes ten times as long with an axis of one inside (1.32: 32 us against 3
for (16, 256, 1, 4)), while a Squeeze copies nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from revstep.export.rewrite.nodes import constant, initializer, nodes, rank
from revstep.export.rewrite.rewrite import Rewrite
from revstep.export.rewrite.shapes import constant_shapes

HEIGHT = 2  # the new axis
KINDS = ("Conv", "ConvTranspose")
WINDOWS = frozenset({*KINDS, "AveragePool", "MaxPool", "GlobalAveragePool"})
FUSED = frozenset(
    {"Add", "Gelu", "HardSigmoid", "Identity", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Sum", "Tanh"}
)
SPREAD = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}

Change = tuple[list[ir.Value | None], dict[str, Any]]
"""Inputs and attributes of a lifted node."""


def conv_2d(model: ir.Model) -> int:
    """Gives every 1-D convolution with constant weights a height, and what lies between two."""
    if not any(_is_1d(node) for node in nodes(model, *KINDS)):
        return 0
    constant_shapes(model)  # a Shape would read a value that nothing else reads
    twins, found = _Twins(model.graph), 0
    for node in list(model.graph):
        if node.domain != "":
            continue
        if node.op_type in KINDS:
            found += _is_1d(node) and twins.lift(node)
        elif node.op_type == "Reshape":
            twins.read(node)
        elif any(map(twins.lifted, node.inputs)):
            twins.lift(node)
    return found


def _is_1d(node: ir.Node) -> bool:
    """Whether this is a convolution over one axis, with constant weights."""
    weights = constant(node.inputs[1])
    return weights is not None and weights.ndim == 3 and rank(node.inputs[0]) == 3


class _Twins:
    """The twins of a graph's values, made where they are asked for.

    Args:
        graph: Its nodes are in topological order.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._twins: dict[ir.Value, ir.Value] = {}
        self._lifted: set[ir.Value] = set()

    def lifted(self, value: ir.Value | None) -> bool:
        """Whether a value is computed by its twin: to read the value itself takes a Squeeze."""
        return value is not None and value in self._lifted

    def read(self, node: ir.Node) -> None:
        """Gives a Reshape a twin to read: the same elements in the same order."""
        x, shape = node.inputs[0], constant(node.inputs[1])
        if x is not None and self.lifted(x) and shape is not None and 0 not in shape[HEIGHT:]:
            node.replace_input_with(0, self._twins[x])

    def lift(self, node: ir.Node) -> bool:
        """Writes a node for the twins of its inputs; False where it can't be."""
        if any(rank(out) != 3 for out in node.outputs):
            return False
        change = self._change(node)
        if change is None:
            return False
        made = ir.node(
            node.op_type, *change, num_outputs=len(node.outputs),
            metadata_props=dict(node.metadata_props),
        )  # fmt: skip
        self._graph.insert_before(node, made)
        for old, new in zip(node.outputs, made.outputs, strict=True):
            new.type, new.shape = old.type, _tall(old)
            back = self._after(made, "Squeeze", new)
            back.name, back.type, back.shape = old.name, old.type, old.shape
            old.replace_all_uses_with(back, replace_graph_outputs=True)
            self._twins[back] = new
            self._lifted.add(back)
        self._graph.remove(node, safe=True)
        return True

    def _change(self, node: ir.Node) -> Change | None:
        attributes: dict[str, Any] = dict(node.attributes)
        kind, x = node.op_type, node.inputs[0]
        if x is None:
            return None
        if kind in KINDS:
            weights = node.inputs[1]
            assert weights is not None
            return [self._of(x), self._of(weights), *node.inputs[2:]], _spread(attributes)
        if kind in WINDOWS:
            return [self._of(x)], _spread(attributes)
        if kind == "Concat":
            axis = node.attributes.get_int("axis", 0) % 3
            attributes["axis"] = ir.AttrInt64("axis", axis if axis < HEIGHT else axis + 1)
            return self._all(node), attributes
        if kind in FUSED:
            same = all(v is not None and v.shape == node.outputs[0].shape for v in node.inputs)
            return (self._all(node), attributes) if same else None
        changed = {"Pad": self._pad, "Resize": self._resize}.get(kind)
        rest = None if changed is None else changed(node)
        return None if rest is None else ([self._of(x), *rest], attributes)

    def _of(self, value: ir.Value) -> ir.Value:
        """The twin of a value with three axes, or of weights."""
        if value not in self._twins:
            array = constant(value)
            if array is not None:
                made = initializer(self._graph, array[:, :, None], f"{value.name}_2d")
            else:
                made = self._after(value.producer(), "Unsqueeze", value)
                made.type, made.shape = value.type, _tall(value)
            self._twins[value] = made
        return self._twins[value]

    def _all(self, node: ir.Node) -> list[ir.Value | None]:
        return [None if v is None else self._of(v) for v in node.inputs]

    def _after(self, node: ir.Node | None, kind: str, value: ir.Value) -> ir.Value:
        """A value with or without the height, right after a node; first of all after none."""
        props = {} if node is None else dict(node.metadata_props)
        made = ir.node(kind, [value, self._whole([HEIGHT], "height")], metadata_props=props)
        if node is None:
            self._graph.insert_before(self._graph[0], made)
        else:
            self._graph.insert_after(node, made)
        return made.outputs[0]

    def _whole(self, numbers: list[int], name: str) -> ir.Value:
        return initializer(self._graph, np.asarray(numbers, np.int64), name)

    def _pad(self, node: ir.Node) -> list[ir.Value | None] | None:
        """Constant pads of all three axes, at both ends."""
        pads = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if pads is None or len(pads) != 6 or (len(node.inputs) > 3 and node.inputs[3] is not None):
            return None
        first, last = pads[:3].tolist(), pads[3:].tolist()
        both = [*_inserted(first, 0), *_inserted(last, 0)]
        return [self._whole(both, "pads"), *node.inputs[2:3]]

    def _resize(self, node: ir.Node) -> list[ir.Value | None] | None:
        """By constant factors, nearest."""
        scales = constant(node.inputs[2]) if len(node.inputs) == 3 else None
        nearest = node.attributes.get_string("mode", "nearest") == "nearest"
        transform = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
        special = "axes" in node.attributes or transform == "tf_crop_and_resize"
        if scales is None or len(scales) != 3 or special or not nearest:
            return None
        new = np.array(_inserted(scales.tolist(), 1.0), scales.dtype)
        return [None, initializer(self._graph, new, "scales")]


def _tall(value: ir.Value) -> ir.Shape | None:
    return None if value.shape is None else ir.Shape(_inserted(list(value.shape), 1))


def _inserted(items: list[Any], item: Any) -> list[Any]:
    return [*items[:HEIGHT], item, *items[HEIGHT:]]


def _spread(attributes: dict[str, Any]) -> dict[str, Any]:
    """A window's attributes, of height 1."""
    for name, one in SPREAD.items():
        if name in attributes:
            attributes[name] = ir.AttrInt64s(name, [one, *attributes[name].as_ints()])
    if "pads" in attributes:
        begin, end = attributes["pads"].as_ints()
        attributes["pads"] = ir.AttrInt64s("pads", [0, begin, 0, end])
    return attributes


CONV_2D = Rewrite(
    "conv_2d",
    "1-D convolutions become 2-D: ONNX Runtime has its blocked layout for two axes only",
    conv_2d,
    runtimes=("onnxruntime",),
)
