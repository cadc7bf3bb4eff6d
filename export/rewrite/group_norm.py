"""GroupNorm by the means of channels, in the layout that convolutions have.

The exporter writes it as InstanceNormalization between two Reshapes. OpenVINO's convolutions keep
channels innermost, which a Reshape to (N, G, -1) must undo and redo: a third of the bundled
U-Net's time. Means over places need no Reshape; those over a group's channels are a product with a
small constant matrix. The variance is that of the differences, as exact as before.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from revstep.export.rewrite.nodes import Before, constant, nodes, sole_user
from revstep.export.rewrite.rewrite import Rewrite
from revstep.export.rewrite.shapes import constant_shapes

PLANES = 4  # axes of what has a layout of its own


class GroupNorm(NamedTuple):
    """A GroupNorm without its scale and shift.

    Attributes:
        x: (N, C, H, W).
        last: The node that gives the result, a Reshape to x's shape.
        groups: Of C / groups channels.
        epsilon: Added to the variance.
    """

    x: ir.Value
    last: ir.Node
    groups: int
    epsilon: float


def find(model: ir.Model) -> list[GroupNorm]:
    """Every InstanceNormalization over (N, groups, -1) that scales by 1 and shifts by 0."""
    return [g for n in nodes(model, "InstanceNormalization") if (g := _group_norm(n)) is not None]


def _group_norm(node: ir.Node) -> GroupNorm | None:
    flat, scale, shift = node.inputs[0], constant(node.inputs[1]), constant(node.inputs[2])
    first = None if flat is None else flat.producer()
    last = sole_user(node.outputs[0])
    if flat is None or first is None or last is None or scale is None or shift is None:
        return None
    x, out = first.inputs[0], last.outputs[0]
    if (
        first.op_type != "Reshape"
        or last.op_type != "Reshape"
        or sole_user(flat) is not node
        or x is None
        or x.shape is None
        or len(x.shape) != PLANES
        or flat.shape is None
        or len(flat.shape) != 3
        or flat.shape[0] != x.shape[0]
        or out.shape != x.shape
        or not all(isinstance(size, int) for size in list(x.shape)[1:])
        or not ((scale == 1).all() and (shift == 0).all())
        or x.dtype != ir.DataType.FLOAT
    ):
        return None
    groups, channels = flat.shape[1], x.shape[1]
    if not isinstance(groups, int) or not isinstance(channels, int) or channels % groups:
        return None
    return GroupNorm(x, last, groups, node.attributes.get_float("epsilon", 1e-5))


def by_channel_means(model: ir.Model) -> int:
    """Writes GroupNorm of (N, C, H, W) by means over places, then over a group's channels."""
    constant_shapes(model)
    found = find(model)
    for norm in found:
        _write(norm)
    return len(found)


def _write(norm: GroupNorm) -> None:
    x, before = norm.x, Before(norm.last)
    assert x.shape is not None
    batch, channels = x.shape[0], x.shape[1]
    assert isinstance(channels, int)
    small, one = [batch, channels], [batch, channels, 1, 1]
    places = before.constant([2, 3], "places")
    size = channels // norm.groups
    mean = np.kron(np.eye(norm.groups), np.full((size, size), 1 / size)).astype(np.float32)
    matrix = before.constant(mean, f"means_{norm.groups}_of_{channels}")

    def averaged(value: ir.Value) -> ir.Value:
        sums = before.shaped("ReduceMean", value, places, like=x, shape=small, keepdims=0)
        return before.shaped("MatMul", sums, matrix, like=x, shape=small)

    def placed(value: ir.Value) -> ir.Value:
        return before.shaped("Unsqueeze", value, places, like=x, shape=one)

    difference = before.op("Sub", x, placed(averaged(x)), like=x)
    variance = averaged(before.op("Mul", difference, difference, like=x))
    epsilon = before.constant(np.array(norm.epsilon, np.float32), "epsilon")
    wide = before.shaped("Add", variance, epsilon, like=x, shape=small)
    deviation = before.shaped("Sqrt", wide, like=x, shape=small)
    before.instead(before.op("Div", difference, placed(deviation), like=x))


GROUP_NORM = Rewrite(
    "group_norm_means",
    "GroupNorm without Reshape: OpenVINO keeps the layout of its convolutions around it",
    by_channel_means,
    runtimes=("openvino",),
)
