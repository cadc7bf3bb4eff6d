"""Operands written out along short axes, over which ONNX Runtime's broadcasting is slow.

It takes a call for each stretch of the same operand: for (16, 256, 4) by (256, 1) eight times as
long as for two equal shapes (1.32). Constants are written in full. What is computed, as the scale
and shift of a block by time and condition, is multiplied by a row of ones: exact, and one matrix
product (Expand and Tile take longer than the broadcast).
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from revstep.export.rewrite.nodes import Before, constant, nodes
from revstep.export.rewrite.rewrite import Rewrite

SHORT = 64  # elements of a stretch, from where broadcasting costs little
LARGEST = 1 << 16  # elements of a constant


def write_out(model: ir.Model) -> int:
    """Gives Add, Sub, Mul and Div operands of the result's own shape, where stretches are short."""
    found = 0
    for node in nodes(model, "Add", "Sub", "Mul", "Div"):
        shape = node.outputs[0].shape
        sizes = [] if shape is None else list(shape)
        inner = [size for size in sizes[1:] if isinstance(size, int)]
        if len(sizes) < 3 or len(inner) < len(sizes) - 1:
            continue
        for number, other in ((0, 1), (1, 0)):
            value, beside = node.inputs[number], node.inputs[other]
            if value is None or beside is None or beside.shape != shape:
                continue
            whole = _constant(node, value, inner) or _product(node, value, sizes)
            if whole is not None:
                node.replace_input_with(number, whole)
                found += 1
    return found


def _constant(node: ir.Node, value: ir.Value, inner: list[int]) -> ir.Value | None:
    """A constant in full, but for the batch."""
    array = constant(value)
    if array is not None and array.ndim == len(inner) + 1 and array.shape[0] == 1:
        array = array[0]
    if array is None or array.size < 2 or array.ndim > len(inner) or math.prod(inner) > LARGEST:
        return None
    lengths = [1] * (len(inner) - array.ndim) + list(array.shape)
    stretch = 1
    while lengths and lengths.pop() == 1:
        stretch *= inner[len(lengths)]
    if not 1 < stretch < SHORT:
        return None
    return Before(node).constant(np.broadcast_to(array, inner), f"{value.name}_full")


def _product(node: ir.Node, value: ir.Value, sizes: list[int | ir.SymbolicDim]) -> ir.Value | None:
    """A computed (N, C, 1) as (N, C, L), by a product with ones."""
    length = sizes[-1]
    if (
        len(sizes) != 3
        or not isinstance(length, int)
        or not 1 < length < SHORT
        or value.shape is None
        or list(value.shape) != [*sizes[:-1], 1]
        or constant(value) is not None
        or value.dtype != ir.DataType.FLOAT
    ):
        return None
    before = Before(node)
    ones = before.constant(np.ones((1, length), np.float32), f"ones_{length}")
    return before.shaped("MatMul", value, ones, like=value, shape=sizes)


BROADCAST = Rewrite(
    "full_operands",
    "operands in full along a short last axis, where ONNX Runtime's broadcasting is slow",
    write_out,
    runtimes=("onnxruntime",),
)
