"""Shapes that are computed in every call, but known but for the batch: written as constants.

GroupNorm of opset 20 comes with a Shape and a Reshape that reads it; attention with Shape, Slice,
Concat and Reshape. With a constant a runtime needs no memory for them and can fuse over them.
"""

from __future__ import annotations

import onnx_ir as ir

from revstep.export.rewrite.nodes import Before, constant, nodes
from revstep.export.rewrite.rewrite import Rewrite


def constant_shapes(model: ir.Model) -> int:
    """Gives every Reshape a constant shape whose result is known in all axes but one."""
    found = 0
    for node in nodes(model, "Reshape"):
        if constant(node.inputs[1]) is not None:
            continue
        target = _target(node)
        if target is not None:
            node.replace_input_with(1, Before(node).constant(target, "shape"))
            if "allowzero" in node.attributes:
                del node.attributes["allowzero"]  # 0 takes the input's size
            found += 1
    return found


def _target(node: ir.Node) -> list[int] | None:
    """The sizes: 0 where an unknown one is the input's at that axis, -1 where it is another."""
    x, out = node.inputs[0], node.outputs[0]
    if x is None or x.shape is None or out.shape is None:
        return None
    known = [size if isinstance(size, int) else None for size in out.shape]
    free = [axis for axis, size in enumerate(known) if size is None]
    if len(free) > 1 or 0 in known:
        return None
    if not free:
        return [size for size in known if size is not None]
    (axis,) = free
    same = axis < len(x.shape) and _named(x.shape[axis]) == _named(out.shape[axis])
    return [(0 if same else -1) if size is None else size for size in known]


def _named(size: object) -> str:
    """A symbol's name; a new one for what has none, which equals nothing."""
    name = size.value if isinstance(size, ir.SymbolicDim) else None
    return name if isinstance(name, str) else f"unnamed {id(size)}"


SHAPES = Rewrite(
    "constant_shapes",
    "shapes known but for the batch are constants: no Shape nodes, and fusions that they stopped",
    constant_shapes,
)
