"""Finds what a CUDA graph can't hold in a module: operators that wait for the device.

One forward pass under a dispatch mode, which is this thread's alone; the operators are the same on
a CPU, so it needs no GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

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
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        why = self._why(name, args, kwargs, result)
        if why is not None and self.reason is None:
            self.reason = f"the module's operator aten::{name} {why}"
        return result

    def _why(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any
    ) -> str | None:
        """What an operator waits for, or None."""
        if name in WAITING:
            there = args[0].device.type == self.device.type  # one on the host waits for nothing
            return WAITING[name] if there and kwargs.get(SIZED.get(name, "")) is None else None
        if name in ("index", "index_put", "index_put_"):
            masks = [i.dtype in (torch.bool, torch.uint8) for i in args[1] if i is not None]
            if any(masks) and not (name != "index" and all(masks) and _is_number(args[2])):
                return "indexes with a mask, whose result has an unknown shape"
        if name in ("_to_copy", "copy_") and isinstance(result, torch.Tensor):
            source = args[1] if name == "copy_" else args[0]
            if {source.device.type, result.device.type} == {"cpu", "cuda"}:
                return "copies between host and device"
        return None


def _is_number(value: torch.Tensor) -> bool:
    """Whether it is a number on the host: x[mask] = 0 fills, and waits for nothing."""
    return value.numel() == 1 and value.device.type == "cpu"


def sync_reason(call: Callable[[], object], device: torch.device) -> str | None:
    """Why ``call`` can't be captured: its first operator that waits for the device.

    None: none is found. A call that can't run in a dispatch mode, as with operators of higher
    order, is left to the capture, which refuses what it can't hold.
    """
    watch = _Watch(device)
    try:
        with watch:
            call()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        pass
    return watch.reason
