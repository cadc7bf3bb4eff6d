"""Finds what a CUDA graph can't hold in a module: operators that wait for the device.

One forward pass under a dispatch mode, which is this thread's alone; the operators are the same on
a CPU, so it also tells without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["sync_reason"]

# Their results' shapes or values are needed on the host.
WAITING = {
    "_local_scalar_dense": "reads a tensor's value in Python (.item(), float(), if, ...)",
    "equal": "compares tensors in Python",
    "is_nonzero": "reads a tensor's value in Python",
    "nonzero": "has a result of unknown shape",
    "masked_select": "has a result of unknown shape",
    "bincount": "has a result of unknown shape",
    "_unique2": "has a result of unknown shape",
    "unique_dim": "has a result of unknown shape",
    "unique_consecutive": "has a result of unknown shape",
    "repeat_interleave": "has a result of unknown shape (pass output_size)",
}
SIZED = {"repeat_interleave": "output_size"}


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.reason: str | None = None

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        why = WAITING.get(name)
        if name in SIZED and kwargs.get(SIZED[name]) is not None:
            why = None
        if name in ("index", "index_put", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        ):
            why = "indexes with a mask, whose result has an unknown shape"
        result = func(*args, **kwargs)
        if name in ("_to_copy", "copy_") and isinstance(result, torch.Tensor):
            source = args[1] if name == "copy_" else args[0]
            if {source.device.type, result.device.type} == {"cpu", "cuda"}:
                why = "copies between host and device"
        if why is not None and self.reason is None:
            self.reason = f"the module's operator aten::{name} {why}"
        return result


def sync_reason(call: Callable[[], object], device: torch.device) -> str | None:
    """Why ``call`` can't be captured: its first operator that waits for the device; None: none."""
    watch = _Watch(device)
    with watch:
        call()
    return watch.reason
