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

__all__ = ["masks_as_given", "translations"]

USUAL_RANK = 4


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The operators whose ONNX form is ours, for ``torch.onnx.export``'s translation table."""
    return {torch.ops.aten.scaled_dot_product_attention.default: attention}


@contextlib.contextmanager
def masks_as_given() -> Iterator[None]:
    """Keeps ``nn.Transformer``'s layers from asking whether a mask is causal, a branch on values.

    The answer only spares work: a causal mask masks by itself.
    """
    from torch.nn.modules import transformer

    name = "_detect_is_causal_mask"
    ask = getattr(transformer, name, None)

    def as_told(mask: object, is_causal: bool | None = None, size: int | None = None) -> bool:
        return is_causal is True

    if ask is not None:
        setattr(transformer, name, as_told)
    try:
        yield
    finally:
        if ask is not None:
            setattr(transformer, name, ask)


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

    With four axes and no bool mask it is the exporter's own, and a row whose float mask is all
    -inf gives 0. Otherwise softmax(Q sqrt(s) (K sqrt(s))^T), of which masked weights are 0.
    """
    from onnxscript import ir
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention as usual
    from onnxscript.onnx_opset import opset18 as op

    masked = attn_mask is not None
    rank = len(query.shape)
    if rank == USUAL_RANK and not (masked and attn_mask.dtype == ir.DataType.BOOL):
        out = usual(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)
        return _zero_where_all_off(op, attn_mask, out) if masked else out
    if enable_gqa and query.shape[-3] != key.shape[-3]:
        key, value = (_repeated(op, part, query.shape[-3]) for part in (key, value))
    if is_causal:
        attn_mask = _causal(op, query, key)
    scores = _scores(op, ir, rank, query, key, scale)
    if attn_mask is None:
        return op.MatMul(op.Softmax(scores, axis=-1), value)
    if attn_mask.dtype == ir.DataType.BOOL:
        zero, least = (_number(op, ir, n, query) for n in (0.0, query.dtype.min))
        weights = op.Softmax(op.Where(attn_mask, scores, least), axis=-1)
        return op.MatMul(op.Where(attn_mask, weights, zero), value)
    out = op.MatMul(op.Softmax(op.Add(scores, attn_mask), axis=-1), value)
    return _zero_where_all_off(op, attn_mask, out)


def _number(op: Any, ir: Any, number: float, like: Any) -> Any:
    return op.Constant(value=ir.tensor(number, dtype=like.dtype))


def _scores(op: Any, ir: Any, rank: int, query: Any, key: Any, scale: float | None) -> Any:
    if scale is None:
        scale = 1.0 / math.sqrt(query.shape[-1])
    root = _number(op, ir, math.sqrt(scale), query)
    axes = list(range(rank))
    axes[-2:] = axes[:-3:-1]
    return op.MatMul(op.Mul(query, root), op.Mul(op.Transpose(key, perm=axes), root))


def _zero_where_all_off(op: Any, mask: Any, out: Any) -> Any:
    """``out`` (..., L, V), 0 where the float mask (..., L, S) is -inf in a whole row."""
    largest = op.ReduceMax(mask, op.Constant(value_ints=[-1]), keepdims=1)
    off = op.IsInf(largest, detect_positive=0)
    off.dtype = _bool()
    return op.Where(off, op.CastLike(op.Constant(value_float=0.0), out), out)


def _bool() -> Any:
    from onnxscript import ir

    return ir.DataType.BOOL


def _causal(op: Any, query: Any, key: Any) -> Any:
    """A bool mask (L, S), True at and below the diagonal."""
    ends = op.Constant(value_ints=[-2]), op.Constant(value_ints=[-1])
    lengths = [op.Slice(op.Shape(part), *ends) for part in (query, key)]
    ones = op.Expand(op.Constant(value_float=1.0), op.Concat(*lengths, axis=0))
    mask = op.Cast(op.Trilu(ones, upper=0), to=_bool())
    mask.dtype = _bool()
    return mask


def _repeated(op: Any, part: Any, heads: int) -> Any:
    """Keys or values (..., H, S, E), each head ``heads / H`` times in turn."""
    times = heads // part.shape[-3]
    rank = len(part.shape)
    counted = op.Unsqueeze(part, op.Constant(value_ints=[rank - 2]))
    shape = [1] * (rank + 1)
    shape[rank - 2] = times
    spread = op.Expand(counted, op.Constant(value_ints=shape))
    whole = [0] * (rank - 3) + [heads, -1, part.shape[-1]]
    return op.Reshape(spread, op.Constant(value_ints=whole))
