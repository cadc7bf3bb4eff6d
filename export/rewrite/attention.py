"""Attention written out, as the operator of opset 23.

PyTorch's exporter writes a product with k, of which two Reshapes and three Transposes are a part,
Softmax, and a product with v. ONNX Runtime has a kernel for the operator (from 1.23 on), which
takes (N, L, heads * size) as they come from the projections, without Transposes.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from revstep.export.rewrite.nodes import Before, constant, nodes, sole_user
from revstep.export.rewrite.rewrite import Rewrite

OPSET = 23
HEADS_OUT = (0, 2, 1, 3)  # (N, L, heads, size) to (N, heads, L, size), and back


class Product(NamedTuple):
    """``softmax(scale q k^T) v``.

    Attributes:
        q, k, v: (N, heads, L, size) each.
        scale: Of the products.
        last: The node that gives the result, of q's shape but for the size.
    """

    q: ir.Value
    k: ir.Value
    v: ir.Value
    scale: float
    last: ir.Node


def attention(model: ir.Model) -> int:
    """Writes attention without a mask as one operator, of a graph that can be of opset 23."""
    if not _products(model) or not _raise_opset(model):
        return 0
    found = _products(model)
    for product in found:
        _write(product)
    return len(found)


def _products(model: ir.Model) -> list[Product]:
    return [p for n in nodes(model, "Softmax") if (p := _product(n)) is not None]


def _product(softmax: ir.Node) -> Product | None:
    scores, last = softmax.inputs[0], sole_user(softmax.outputs[0])
    if scores is None or last is None or last.op_type != "MatMul":
        return None
    if (
        softmax.attributes.get_int("axis", -1) not in {-1, 3}
        or last.inputs[0] is not softmax.outputs[0]
    ):
        return None
    scores, factor = _unscaled(scores, softmax)
    product, v = scores.producer(), last.inputs[1]
    if product is None or product.op_type != "MatMul" or sole_user(scores) is None or v is None:
        return None
    left, right = product.inputs
    if left is None or right is None:
        return None
    q, one = _unscaled(left, product)
    turned, other = _unscaled(right, product)
    k = _turned(turned)
    if k is None or not _same_heads(q, k, v):
        return None
    return Product(q, k, v, factor * one * other, last)


def _unscaled(value: ir.Value, user: ir.Node) -> tuple[ir.Value, float]:
    """What a Mul or Div by a number reads, and the number; the value itself and 1 otherwise."""
    node = value.producer()
    if node is None or node.op_type not in {"Mul", "Div"} or sole_user(value) is not user:
        return value, 1.0
    source, number = node.inputs[0], constant(node.inputs[1])
    if source is None or number is None or number.size != 1 or source.shape != value.shape:
        return value, 1.0
    factor = float(number.reshape(()))
    return source, factor if node.op_type == "Mul" else 1 / factor


def _turned(value: ir.Value) -> ir.Value | None:
    """The k of k^T: by a Transpose, or by one of (N * heads, L, size) between two Reshapes."""
    node = value.producer()
    if node is None:
        return None
    if node.op_type == "Transpose":
        return node.inputs[0] if _order(node) == (0, 1, 3, 2) else None
    middle = _of(node, "Reshape")
    first = _of(middle, "Transpose")
    if middle is None or first is None or _order(middle) != (0, 2, 1) or first.op_type != "Reshape":
        return None
    k, flat, shape = first.inputs[0], first.outputs[0].shape, value.shape
    if k is None or k.shape is None or flat is None or shape is None or len(k.shape) != 4:
        return None
    _, heads, length, size = list(k.shape)  # the batch is what is left of the elements
    same = list(flat)[1:] == [length, size] and list(shape)[1:] == [heads, size, length]
    return k if same else None


def _of(node: ir.Node | None, kind: str) -> ir.Node | None:
    """The node that a node of this kind reads first."""
    value = node.inputs[0] if node is not None and node.op_type == kind else None
    return None if value is None else value.producer()


def _order(node: ir.Node) -> tuple[int, ...]:
    return tuple(node.attributes.get_ints("perm", ()))


def _same_heads(*values: ir.Value) -> bool:
    """Whether these are float32 (N, heads, L, size) of the same N and heads, and known sizes."""
    shapes = [[] if value.shape is None else list(value.shape) for value in values]
    known = all(isinstance(size, int) for shape in shapes for size in shape[1:])
    return (
        known
        and all(len(shape) == 4 and shape[:2] == shapes[0][:2] for shape in shapes)
        and all(value.dtype == ir.DataType.FLOAT for value in values)
    )


def _raise_opset(model: ir.Model) -> bool:
    """Raises the graph to the operator's opset, where the converter can."""
    from onnxscript.version_converter import convert_version

    if model.graph.opset_imports[""] >= OPSET:
        return True
    trial = model.clone()  # what fails half way leaves half a graph
    try:
        convert_version(trial, OPSET)
    except Exception:  # the converter passes on whatever its rules raise
        return False
    if trial.graph.opset_imports[""] < OPSET:
        return False
    convert_version(model, OPSET)
    return True


def _write(product: Product) -> None:
    flat = [_without_heads(value) for value in (product.q, product.k, product.v)]
    end = _joined(product.last)
    q, k, v = product.q, product.k, product.v
    if end is None or None in flat:
        before = Before(product.last)
        like = product.last.outputs[0]
        before.instead(before.op("Attention", q, k, v, like=like, scale=product.scale))
        return
    before = Before(end)
    counts = {
        f"{name}_num_heads": value.shape[1]  # type: ignore[index]
        for name, value in (("q", q), ("kv", k))
    }
    like = end.outputs[0]
    before.instead(before.op("Attention", *flat, like=like, scale=product.scale, **counts))


def _without_heads(value: ir.Value) -> ir.Value | None:
    """(N, L, heads * size), of which a Reshape and a Transpose made the heads."""
    node = value.producer()
    if node is None or node.op_type != "Transpose" or _order(node) != HEADS_OUT:
        return None
    split = _of(node, "Transpose")
    source = split.inputs[0] if split is not None and split.op_type == "Reshape" else None
    whole = None if value.shape is None else list(value.shape)
    if source is None or source.shape is None or whole is None or len(source.shape) != 3:
        return None
    heads, length, size = whole[1:]
    joined = heads * size if isinstance(heads, int) and isinstance(size, int) else None
    return source if list(source.shape)[1:] == [length, joined] else None


def _joined(last: ir.Node) -> ir.Node | None:
    """The Reshape to (N, L, heads * size) that ends the heads, if nothing else reads them."""
    turn = sole_user(last.outputs[0])
    if turn is None or turn.op_type != "Transpose" or _order(turn) != HEADS_OUT:
        return None
    end, sizes = sole_user(turn.outputs[0]), turn.outputs[0].shape
    if end is None or end.op_type != "Reshape" or end.outputs[0].shape is None or sizes is None:
        return None
    _, length, heads, size = list(sizes)
    joined = heads * size if isinstance(heads, int) and isinstance(size, int) else None
    return end if list(end.outputs[0].shape)[1:] == [length, joined] else None


ATTENTION = Rewrite(
    "attention",
    "attention is one operator, for which ONNX Runtime has a kernel without Transposes",
    attention,
    runtimes=("onnxruntime",),
)
