"""Mish by one exponential: ``x tanh(softplus(x)) = x n / (n + 2)`` with ``n = w (w + 2)``, w = e^x.

Above ``HIGH`` both are x in float32, so w is held there and never overflows. ONNX Runtime has no
Mish kernel: it runs Softplus, Tanh and Mul, eight times as long as this (batch 16 of (64, 16)).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from revstep.export.rewrite.nodes import Before, nodes, sole_user
from revstep.export.rewrite.rewrite import Rewrite

HIGH = 20.0  # e^-40 is far below half a unit of 1


def closed_form(model: ir.Model) -> int:
    """Writes Mish, or Softplus, Tanh and Mul, of float32 values in closed form."""
    found = 0
    for node in nodes(model, "Mish", "Mul"):
        x = node.inputs[0] if node.op_type == "Mish" else _of_product(node)
        if x is None or x.dtype != ir.DataType.FLOAT:
            continue
        found += 1
        before = Before(node)
        high = before.constant(np.array(HIGH, np.float32), "mish_high")
        two = before.constant(np.array(2.0, np.float32), "two")
        w = before.op("Exp", before.op("Clip", x, None, high, like=x), like=x)
        n = before.op("Mul", w, before.op("Add", w, two, like=x), like=x)
        share = before.op("Div", n, before.op("Add", n, two, like=x), like=x)
        before.instead(before.op("Mul", x, share, like=x))
    return found


def _of_product(node: ir.Node) -> ir.Value | None:
    """The x of ``x * Tanh(Softplus(x))``."""
    for x, other in (node.inputs, tuple(reversed(node.inputs))):
        tanh = None if other is None else other.producer()
        if x is None or other is None or tanh is None or tanh.op_type != "Tanh":
            continue
        inner = tanh.inputs[0]
        softplus = None if inner is None else inner.producer()
        if (
            softplus is not None
            and inner is not None
            and softplus.op_type == "Softplus"
            and softplus.inputs[0] is x
            and sole_user(other) is node
            and sole_user(inner) is tanh
        ):
            return x
    return None


MISH = Rewrite(
    "mish", "ONNX Runtime has no kernel for Mish, and three for its parts", closed_form,
    runtimes=("onnxruntime",),
)  # fmt: skip
