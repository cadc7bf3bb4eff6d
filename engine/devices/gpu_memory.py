"""A GPU's memory: who may release it, and what is said where it is short."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

from revstep.engine.errors import DeviceMemoryError

if TYPE_CHECKING:
    import torch

__all__ = ["CAPTURING", "memory_named"]

NO_MEMORY = ("out of memory", "ALLOC_FAILED", "Failed to allocate memory")

# torch allows one capture at a time in a process, and its memory may not be released meanwhile
CAPTURING = threading.Lock()


@contextlib.contextmanager
def memory_named(device: torch.device, doing: str, fix: str) -> Iterator[None]:
    """Turns an allocator's error into one that names what ran and the option that fixes it."""
    import torch

    try:
        yield
    except Exception as error:  # ONNX Runtime's errors share no other base
        text = str(error)
        short = isinstance(error, torch.OutOfMemoryError) or any(t in text for t in NO_MEMORY)
        if isinstance(error, DeviceMemoryError) or not short:
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what was allocated
        if device.type == "cuda":
            with CAPTURING:
                torch.cuda.empty_cache()
        first = text.partition("\n")[0][:300]
        raise DeviceMemoryError(f"{device} is out of memory {doing}: {first}; {fix}") from None
