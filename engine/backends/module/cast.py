"""A module of another dtype or device: what a cast may change, and what it must leave.

``Module.to(dtype)`` discards the imaginary part of complex tensors and rounds float64 tables that a
float32 module computes with; ``copy.deepcopy`` fails on a lock or a python module that it holds.
"""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch.nn.parameter import is_lazy

NARROW = 2  # bytes: fp8 and below hold quantised values, whose scales lie elsewhere
DEFAULT = torch.float32
LARGE = 1 << 18  # numbers of a weight that a copy for reading shares: 1 MiB in float32


def weight_dtype(module: torch.nn.Module) -> torch.dtype:
    """The floating-point dtype of most of a module's parameters; float32 where it has none."""
    sizes: Counter[torch.dtype] = Counter()
    for parameter in module.parameters():
        if _wide_float(parameter) and not is_lazy(parameter):
            sizes[parameter.dtype] += parameter.numel()
    return sizes.most_common(1)[0][0] if sizes else DEFAULT


def cast_dtype(
    tensor: torch.Tensor, dtype: torch.dtype, weights: torch.dtype = DEFAULT
) -> torch.dtype:
    """The dtype that a tensor has after a cast of its module to ``dtype``.

    Args:
        tensor: A parameter or buffer.
        dtype: The cast's.
        weights: ``weight_dtype`` of the module: float64 tensors of a module that computes in less
            stay, for they make tables that would lose digits.
    """
    if not _wide_float(tensor):
        return tensor.dtype
    if tensor.dtype == torch.float64 and weights != torch.float64:
        return tensor.dtype
    return dtype


def cast_weights(
    module: torch.nn.Module,
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    weights: torch.dtype | None = None,
) -> torch.nn.Module:
    """Casts and moves a module's parameters and buffers in place; returns it.

    Floating-point tensors of 16 bits and more get ``dtype``; complex, whole-number, bool and
    quantised ones keep theirs, and so do the float64 ones of a module that computes in less.

    Args:
        module: Changed in place: give it a ``copy_module`` of the caller's.
        dtype: Of its weights afterwards.
        device: Where it lies afterwards.
        weights: The dtype that it computes in now; None: ``weight_dtype``.
    """
    now = weight_dtype(module) if weights is None else weights

    def changed(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(device=device, dtype=cast_dtype(tensor, dtype, now))

    module._apply(changed)  # type: ignore[no-untyped-call]
    return module


def copy_module(module: torch.nn.Module, memo: dict[int, Any] | None = None) -> torch.nn.Module:
    """A deep copy that shares what can't be copied: locks, files, python modules, processes.

    Tensors that a forward pass with gradients has left on it (as weight norms do) are detached.

    Args:
        module: The module.
        memo: Objects by id that the copy shares or already has, as in ``copy.deepcopy``.
    """
    try:
        return copy.deepcopy(module, dict(memo or {}))
    except (TypeError, NotImplementedError, RuntimeError, AttributeError):
        known = {id(held): _detached(held) for held in _uncopyable(module)}
        if not known:
            raise
        return copy.deepcopy(module, {**known, **(memo or {})})


def shared_weights(
    module: torch.nn.Module,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> dict[int, Any]:
    """Of ``copy_module``, what a copy for reading shares: large weights that no cast changes.

    They are parameters of their own on the same memory, so that what is set on one (its gradient,
    whether it needs one) isn't set on the caller's.

    Args:
        module: The module.
        dtype: Of the copy's weights; None: each keeps its own.
        device: Where the copy lies; None: where each lies.
    """
    wanted = None if device is None else torch.device(device)
    return {
        id(p): torch.nn.Parameter(p.detach(), requires_grad=False)
        for p in module.parameters()
        if type(p) is torch.nn.Parameter
        and not is_lazy(p)
        and p.layout == torch.strided
        and dtype in (None, p.dtype)
        and wanted in (None, p.device)
        and p.numel() >= LARGE
    }


def _detached(held: object) -> object:
    return held.detach().clone() if isinstance(held, torch.Tensor) else held


def _wide_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and tensor.dtype.itemsize >= NARROW


def _uncopyable(root: object) -> list[object]:
    """The objects below ``root`` that ``copy.deepcopy`` refuses, but holds no more than."""
    found: list[object] = []
    seen, waiting = set[int](), [root]
    while waiting:
        held = waiting.pop()
        if id(held) in seen:
            continue
        seen.add(id(held))
        if isinstance(held, dict):
            waiting += [*held.keys(), *held.values()]
        elif isinstance(held, list | tuple | set | frozenset):
            waiting += held
        elif isinstance(held, torch.Tensor):
            found += [] if held.is_leaf else [held]
        elif type(held) in copy._deepcopy_dispatch:  # type: ignore[attr-defined]
            continue
        elif _reduces(held):
            waiting += _parts(held)
        else:
            found.append(held)
    return found


def _reduces(held: object) -> bool:
    if isinstance(held, type) or hasattr(held, "__deepcopy__"):
        return True
    try:
        held.__reduce_ex__(4)
    except Exception:  # whatever an object says that can't be copied
        return False
    return True


def _parts(held: object) -> list[object]:
    slots = [s for kind in type(held).__mro__ for s in getattr(kind, "__slots__", ())]
    values = [getattr(held, s) for s in slots if isinstance(s, str) and hasattr(held, s)]
    return [] if isinstance(held, type) else [*getattr(held, "__dict__", {}).values(), *values]
