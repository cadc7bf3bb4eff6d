"""Where a live module's weights lie, and that they still do."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.parameter import is_lazy

from revstep.engine.errors import BackendError


class WeightsPlace:
    """Notes device and dtype of a module's weights and buffers, to compare them before each run.

    Args:
        module: The module.
        captured: Whether steps may have been captured in CUDA graphs, which read addresses: then
            the memory must stay too.
    """

    def __init__(self, module: torch.nn.Module, *, captured: bool = False) -> None:
        self._held = [
            (f"{prefix}." if prefix else "", held)
            for prefix, part in module.named_modules()
            for held in (part._parameters, part._buffers)
        ]
        tensors = (t for _, held in self._held for t in held.values())
        self._captured = captured and not any(is_lazy(t) for t in tensors)  # those have none yet
        self._places = self._now()
        self._names = self._named()

    def check(self) -> None:
        """Refuses weights that were moved, cast, or, where steps are captured, replaced.

        Raises:
            BackendError: They were; names the first.
        """
        now = self._now()
        if now == self._places:
            return
        then = dict(zip(self._names, self._places, strict=True))
        for name, place in zip(self._named(), now, strict=True):
            for before, after in zip(then.get(name, place), place, strict=True):
                if before != after:
                    raise BackendError(_changed(name, before, after))
        if self._captured:
            raise BackendError(
                "the live module has other weights or buffers than when its steps were captured: "
                "call from_module again"
            )

    def _now(self) -> list[tuple[Any, ...]]:
        """(device, dtype) of every tensor, and where steps are captured, its address."""
        captured = self._captured
        return [
            (t.device, t.dtype, t.data_ptr()) if captured else (t.device, t.dtype)
            for _, held in self._held
            for t in held.values()
            if t is not None
        ]

    def _named(self) -> list[str]:
        return [f"{p}{name}" for p, held in self._held for name, t in held.items() if t is not None]


def _changed(name: str, before: Any, after: Any) -> str:
    what = f"is {after} now, and was {before} when the engine was made"
    if isinstance(before, int):
        what = "lies elsewhere in memory than where its captured steps read it"
    return (
        f"{name!r} of the live module {what}: put it back, or call from_module again. What writes "
        "into the weights, as an optimizer and load_state_dict do, is followed"
    )
