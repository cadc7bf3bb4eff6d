"""Values (N, C, L) beside their twins (N, C, 1, L), and the nodes that compute either.

A node is *lifted*: written anew for the twins of its inputs, and each of its outputs becomes a
Squeeze of the new one, which goes where nothing reads it any more. So nodes lifted one after the
other have no Squeeze and Unsqueeze between them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from revstep.export.rewrite.nodes import axes_of, constant, initializer, rank

HEIGHT = 2  # the new axis
SAME = frozenset({
    "Abs", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp",
    "Floor", "Gelu", "GroupNormalization", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "LeakyRelu", "Log", "Mish", "Neg", "PRelu", "Reciprocal", "Relu",
    "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh",
    "ThresholdedRelu", "Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean", "Where",
    "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "And", "Or", "Not",
})  # fmt: skip
"""Element by element, with broadcasting; or by channel, with parameters (C,)."""
ALONG = frozenset({"Concat", "Split"})  # along the attribute axis
WINDOWS = frozenset({"Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool"})
SPREAD = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}


class Twins:
    """The twins of a graph's values, made where they are asked for.

    Args:
        graph: Its nodes are in topological order.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._twins: dict[ir.Value, ir.Value] = {}
        self._lifted: set[ir.Value] = set()
        self._shapes: set[tuple[str, ...]] = set()  # of those

    def lifted(self, value: ir.Value | None) -> bool:
        """Whether a value is computed by its twin: to read the value itself costs a Squeeze."""
        return value is not None and value in self._lifted

    def restore(self, node: ir.Node) -> None:
        """Makes the twin of a Reshape back to the shape of a lifted node's output.

        As after GroupNorm's InstanceNormalization over (N, G, -1): what follows is lifted too.
        """
        out = node.outputs[0]
        if _sizes(out) in self._shapes and constant(node.inputs[1]) is not None:
            self.of(out)
            self._lifted.add(out)

    def of(self, value: ir.Value) -> ir.Value:
        """The twin of a value with three axes."""
        if value not in self._twins:
            node = value.producer()
            made = None
            if (array := constant(value)) is not None:
                made = self._constant(value, array)
            elif node is not None and node.op_type in {"Reshape", "Unsqueeze"}:
                made = self._from_shape(node)
            elif node is not None and node.op_type == "Split" and self._cheap(node.inputs[0]):
                self.lift(node)
                return self._twins[_squeezed(value, self._twins)]
            self._twins[value] = made if made is not None else self._unsqueezed(value)
        return self._twins[value]

    def lift(self, node: ir.Node, weights: ir.Value | None = None) -> bool:
        """Writes a node for the twins; False where it can't be."""
        change = self._change(node)
        if change is None:
            return False
        inputs, attributes = change
        if weights is not None:
            inputs = [inputs[0], weights, *inputs[2:]]
        made = ir.node(
            node.op_type, inputs, attributes, num_outputs=len(node.outputs),
            metadata_props=dict(node.metadata_props),
        )  # fmt: skip
        self._graph.insert_before(node, made)
        for old, new in zip(node.outputs, made.outputs, strict=True):
            new.type, new.shape = old.type, _tall(old)
            back = self._after(made, "Squeeze", [new, self._axes([HEIGHT])])
            back.name, back.type, back.shape = old.name, old.type, old.shape
            old.replace_all_uses_with(back, replace_graph_outputs=True)
            self._twins[back] = new
            self._lifted.add(back)
            self._shapes.add(_sizes(back))
        self._graph.remove(node, safe=True)
        return True

    def _change(self, node: ir.Node) -> tuple[list[ir.Value | None], dict[str, Any]] | None:
        """Inputs and attributes of the lifted node, None of one that can't be lifted."""
        attributes: dict[str, Any] = dict(node.attributes)
        kind, x = node.op_type, node.inputs[0]
        if any(rank(out) != 3 for out in node.outputs) or x is None:
            return None
        if kind in WINDOWS:
            return [self.of(x), *node.inputs[1:]], _spread(attributes)
        if kind in SAME or kind in ALONG:
            if kind in ALONG:
                axis = node.attributes.get_int("axis", 0)
                attributes["axis"] = ir.AttrInt64("axis", _moved(axis))
            data = node.inputs[:1] if kind == "Split" else node.inputs
            if any(v is not None and rank(v) not in {0, 1, 2, 3} for v in data):
                return None
            return [*map(self._broadcast, data), *node.inputs[len(data) :]], attributes
        changed = {"Pad": self._pad, "Slice": self._slice, "Resize": self._resize}.get(kind)
        rest = None if changed is None else changed(node)
        return None if rest is None else ([self.of(x), *rest], attributes)

    def _broadcast(self, value: ir.Value | None) -> ir.Value | None:
        """What broadcasts against twins as ``value`` does against values."""
        axes = rank(value)
        if value is None or axes is None or axes < 2:
            return value  # a number, or one along the length
        if axes == 3:
            return self.of(value)
        array = constant(value)  # (C, L) to (C, 1, L)
        if array is not None:
            return initializer(self._graph, array[:, None], f"{value.name}_2d")
        if value not in self._twins:
            self._twins[value] = self._unsqueezed(value, axis=1)
        return self._twins[value]

    def _constant(self, value: ir.Value, array: Any) -> ir.Value:
        return initializer(self._graph, array[:, :, None], f"{value.name}_2d")

    def _cheap(self, value: ir.Value | None) -> bool:
        """Whether a twin costs no node of its own."""
        node = None if value is None else value.producer()
        return value in self._twins or (
            node is not None and node.op_type in {"Reshape", "Unsqueeze"} and rank(value) == 3
        )

    def _from_shape(self, node: ir.Node) -> ir.Value | None:
        """The output of a Reshape or Unsqueeze, with the axis in it from the start."""
        out, given = node.outputs[0], constant(node.inputs[1])
        if out.shape is None or given is None:
            return None
        if node.op_type == "Unsqueeze":
            axes = [a % 3 for a in axes_of(node) or []]
            new = sorted({HEIGHT, *(a if a < HEIGHT else a + 1 for a in axes)})
        else:
            sizes = [int(n) for n in given]
            if sizes[2] == 0:  # the input's third axis: it keeps its number
                return None
            new = [*sizes[:2], 1, sizes[2]]
        values = [node.inputs[0], self._axes(new)]
        made = self._after(node, node.op_type, values, dict(node.attributes))
        made.type, made.shape = out.type, _tall(out)
        return made

    def _unsqueezed(self, value: ir.Value, axis: int = HEIGHT) -> ir.Value:
        made = self._after(value.producer(), "Unsqueeze", [value, self._axes([axis])])
        made.type = value.type
        made.shape = None if value.shape is None else ir.Shape(_inserted(list(value.shape), axis))
        return made

    def _after(
        self,
        node: ir.Node | None,
        kind: str,
        inputs: list[ir.Value | None],
        attributes: dict[str, Any] | None = None,
    ) -> ir.Value:
        """A new node's output, right after another node; first of all after none."""
        props = {} if node is None else dict(node.metadata_props)
        made = ir.node(kind, inputs, attributes, metadata_props=props)
        if node is None:
            self._graph.insert_before(self._graph[0], made)
        else:
            self._graph.insert_after(node, made)
        return made.outputs[0]

    def _axes(self, axes: list[int]) -> ir.Value:
        return initializer(self._graph, np.asarray(axes, np.int64), "axes")

    def _pad(self, node: ir.Node) -> list[ir.Value | None] | None:
        """Pads of all three axes, at both ends."""
        pads = constant(node.inputs[1]) if len(node.inputs) > 1 else None
        if pads is None or len(pads) != 6 or (len(node.inputs) > 3 and node.inputs[3] is not None):
            return None
        both = [*_inserted(pads[:3].tolist(), HEIGHT, 0), *_inserted(pads[3:].tolist(), HEIGHT, 0)]
        return [self._axes(both), *node.inputs[2:3]]

    def _slice(self, node: ir.Node) -> list[ir.Value | None] | None:
        axes = constant(node.inputs[3]) if len(node.inputs) > 3 else None
        if axes is None:
            return None
        new = self._axes([_moved(int(a)) for a in axes])
        return [*node.inputs[1:3], new, *node.inputs[4:]]

    def _resize(self, node: ir.Node) -> list[ir.Value | None] | None:
        """By constant factors, nearest or linear."""
        scales = constant(node.inputs[2]) if len(node.inputs) == 3 else None
        mode = node.attributes.get_string("mode", "nearest")
        special = {"axes", "antialias", "exclude_outside"} & set(node.attributes)
        transform = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
        if scales is None or len(scales) != 3 or special or transform == "tf_crop_and_resize":
            return None
        if mode not in {"nearest", "linear"}:
            return None
        new = np.array(_inserted(scales.tolist(), HEIGHT, 1.0), scales.dtype)
        return [None, initializer(self._graph, new, "scales")]


def follow(twins: Twins, node: ir.Node) -> None:
    """Lifts a node that reads what lifted nodes give, where it can be."""
    if node.op_type == "Reshape":
        shape, x = constant(node.inputs[1]), node.inputs[0]
        if shape is not None and twins.lifted(x) and 0 not in shape[HEIGHT:] and x is not None:
            node.replace_input_with(0, twins.of(x))  # the same elements in the same order
        else:
            twins.restore(node)
    elif any(twins.lifted(v) for v in node.inputs):
        twins.lift(node)


def _squeezed(value: ir.Value, twins: dict[ir.Value, ir.Value]) -> ir.Value:
    """What took a lifted value's place: it has its name."""
    return next(v for v in twins if v.name == value.name and v is not value)


def _sizes(value: ir.Value) -> tuple[str, ...]:
    """A shape to compare by, of one that has one."""
    return () if value.shape is None else tuple(map(str, value.shape))


def _tall(value: ir.Value) -> ir.Shape | None:
    return None if value.shape is None else ir.Shape(_inserted(list(value.shape), HEIGHT))


def _inserted(items: list[Any], at: int, item: Any = 1) -> list[Any]:
    return [*items[:at], item, *items[at:]]


def _moved(axis: int) -> int:
    """An axis of a value, as an axis of its twin."""
    axis %= 3
    return axis if axis < HEIGHT else axis + 1


def _spread(attributes: dict[str, Any]) -> dict[str, Any]:
    """A window's attributes, of height 1."""
    for name, one in SPREAD.items():
        if name in attributes:
            attributes[name] = ir.AttrInt64s(name, [one, *attributes[name].as_ints()])
    if "pads" in attributes:
        begin, end = attributes["pads"].as_ints()
        attributes["pads"] = ir.AttrInt64s("pads", [0, begin, 0, end])
    return attributes
