"""A scale and a shift of every channel, as GroupNorm ends with, as one operator.

ONNX Runtime multiplies and adds in two passes, which broadcast (C, 1, 1); its kernel for
BatchNormalization does both in one, a channel at a time. With mean 0, variance 1 and epsilon 0 it
scales by exactly what is given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from revstep.export.rewrite.nodes import Before, constant, nodes, sole_user
from revstep.export.rewrite.rewrite import Rewrite


def by_batch_norm(model: ir.Model) -> int:
    """Writes Mul and Add of float32 (N, C, ...) by constants a channel as BatchNormalization."""
    found = 0
    for add in nodes(model, "Add"):
        scaled, shift = _by_channel(add)
        scale_node = None if scaled is None else scaled.producer()
        if scaled is None or shift is None or scale_node is None or sole_user(scaled) is not add:
            continue
        x, scale = _by_channel(scale_node) if scale_node.op_type == "Mul" else (None, None)
        if x is None or scale is None or _folds(x):
            continue
        _write(add, x, scale, shift)
        found += 1
    return found


def _by_channel(node: ir.Node) -> tuple[ir.Value | None, NDArray[Any] | None]:
    """What a node changes, and by which constant (C,); None twice where it is not by channel."""
    for number in (0, 1):
        x, array = node.inputs[number], constant(node.inputs[1 - number])
        out = node.outputs[0].shape
        if x is None or array is None or x.dtype != ir.DataType.FLOAT or x.shape is None:
            continue
        channels = x.shape[1] if len(x.shape) > 2 else None
        if out != x.shape or not isinstance(channels, int) or array.size != channels:
            continue
        behind = len(x.shape) - 2  # a batch of as many rows as there are channels is none
        if array.ndim > behind and array.shape[-behind - 1] == channels:
            return x, array.reshape(channels)
    return None, None


def _folds(x: ir.Value) -> bool:
    """Whether runtimes fold the scale into what gives ``x``."""
    node = x.producer()
    return node is not None and node.op_type in {"Conv", "ConvTranspose", "MatMul", "Gemm"}


def _write(add: ir.Node, x: ir.Value, scale: NDArray[Any], shift: NDArray[Any]) -> None:
    before = Before(add)
    channels = len(scale)
    name = add.outputs[0].name
    given = [
        before.constant(scale, f"{name}_scale"),
        before.constant(shift, f"{name}_shift"),
        before.constant(np.zeros(channels, np.float32), f"zeros_{channels}"),
        before.constant(np.ones(channels, np.float32), f"ones_{channels}"),
    ]
    before.instead(before.op("BatchNormalization", x, *given, like=x, epsilon=0.0))


CHANNEL_AFFINE = Rewrite(
    "channel_affine",
    "scale and shift of a channel in one pass: ONNX Runtime has two that broadcast",
    by_batch_norm,
    runtimes=("onnxruntime",),
)
