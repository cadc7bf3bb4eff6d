"""Attention in an exported graph, as PyTorch computes it.

The exporter's own translation takes four axes only, and where a row's mask is all off it attends
evenly (bool) or gives NaN (a float mask of -inf); PyTorch gives 0 there. And ``nn.Transformer``'s
layers compare their mask's values with a causal one, which a graph can't.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

USUAL_RANK = 4


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The operators whose ONNX form is ours, for ``torch.onnx.export``'s translation table."""
    return {torch.ops.aten.scaled_dot_product_attention.default: attention}


@contextlib.contextmanager
def masks_as_given() -> Iterator[None]:
    """Keeps ``nn.Transformer``'s layers from checking whether a mask is causal, a branch on values.

    It only spares work: a causal mask masks by itself.
    """
    from torch.nn.modules import transformer

    name = "_detect_is_causal_mask"
    detect = getattr(transformer, name, None)

    def stated(mask: object, is_causal: bool | None = None, size: int | None = None) -> bool:
        return is_causal is True

    if detect is None:
        yield
        return
    setattr(transformer, name, stated)
    try:
        yield
    finally:
        setattr(transformer, name, detect)


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``scaled_dot_product_attention`` in ONNX operators: (..., L, E), (..., S, E), (..., S, V).

    The exporter's own where there are four axes. A mask is a float bias, and a row that it turns
    off whole gives 0: of a mask that is the same for all L by values of 0, which costs nothing.
    """
    from onnxscript import ir
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention as usual
    from onnxscript.onnx_opset import opset18 as op

    rank, off = len(query.shape), None
    if enable_gqa and (attn_mask is not None or rank != USUAL_RANK):
        key, value = (_repeated(op, part, query.shape[-3]) for part in (key, value))
        enable_gqa = False
    if is_causal and rank != USUAL_RANK:
        attn_mask, is_causal = _causal(op, query, key), False
    if attn_mask is not None:
        shape = attn_mask.shape
        same = shape is not None and (len(shape) < 2 or shape[-2] == 1)
        attn_mask, off = _bias_and_off(op, query, attn_mask)
        if same:
            zero = _number(op, 0.0, query)
            attn_mask = op.Where(off, zero, attn_mask)
            value, off = _like(op.Where(off, zero, value), value), None
    if rank == USUAL_RANK:
        out = usual(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
    else:
        scores = _scores(op, query, key, scale)
        scores = scores if attn_mask is None else op.Add(scores, attn_mask)
        out = op.MatMul(op.Softmax(scores, axis=-1), value)
    if off is None:
        return out
    if query.shape[:-2] == value.shape[:-2]:  # known, a choice that is none can be dropped
        out.shape = ir.Shape([*query.shape[:-1], value.shape[-1]])
    return op.Where(off, _number(op, 0.0, query), out)


def _bias_and_off(op: Any, query: Any, mask: Any) -> tuple[Any, Any]:
    """A mask (..., L, S) as what is added to the scores, and (..., L, 1): is a row off whole?"""
    from onnxscript import ir

    last = op.Constant(value_ints=[-1])
    if mask.dtype != ir.DataType.BOOL:
        return mask, op.IsInf(op.ReduceMax(mask, last, keepdims=1), detect_positive=0)
    zero, lowest = (_number(op, n, query) for n in (0.0, query.dtype.min))
    on = op.ReduceMax(op.Cast(mask, to=ir.DataType.INT32), last, keepdims=1)
    return op.Where(mask, zero, lowest), op.Not(op.Cast(on, to=ir.DataType.BOOL))


def _like(made: Any, value: Any) -> Any:
    made.shape, made.dtype = value.shape, value.dtype
    return made


def _number(op: Any, number: float, like: Any) -> Any:
    from onnxscript import ir

    return op.Constant(value=ir.tensor(number, dtype=like.dtype))


def _scores(op: Any, query: Any, key: Any, scale: float | None) -> Any:
    """Q sqrt(s) (K sqrt(s))^T, as PyTorch rounds it."""
    if scale is None:
        scale = 1.0 / math.sqrt(query.shape[-1])
    root = _number(op, math.sqrt(scale), query)
    axes = list(range(len(key.shape)))
    axes[-2:] = axes[:-3:-1]
    return op.MatMul(op.Mul(query, root), op.Mul(op.Transpose(key, perm=axes), root))


def _causal(op: Any, query: Any, key: Any) -> Any:
    """A bool mask (L, S), True at and below the diagonal."""
    from onnxscript import ir

    ends = op.Constant(value_ints=[-2]), op.Constant(value_ints=[-1])
    lengths = [op.Slice(op.Shape(part), *ends) for part in (query, key)]
    ones = op.Expand(op.Constant(value_float=1.0), op.Concat(*lengths, axis=0))
    mask = op.Cast(op.Trilu(ones, upper=0), to=ir.DataType.BOOL)
    mask.dtype = ir.DataType.BOOL
    return mask


def _repeated(op: Any, part: Any, heads: int) -> Any:
    """Keys or values (..., H, S, E), each head ``heads / H`` times in turn."""
    from onnxscript import ir

    times = heads // part.shape[-3]
    if times == 1:
        return part
    rank = len(part.shape)
    counted = op.Unsqueeze(part, op.Constant(value_ints=[rank - 2]))
    shape = [1] * (rank + 1)
    shape[rank - 2] = times
    spread = op.Expand(counted, op.Constant(value_ints=shape))
    whole = [0] * (rank - 3) + [heads, -1, part.shape[-1]]
    made = _like(op.Reshape(spread, op.Constant(value_ints=whole)), part)
    made.shape = ir.Shape([*part.shape[:-3], heads, *part.shape[-2:]])
    return made
