"""The form of a caller's module: the dtypes and the device that it takes, without a cast.

What is compared with a cast copy agrees with the copy's faults too, so the reference is taken here.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from revstep.engine.backends.module.cast import copy_module, shared_weights, weight_dtype
from revstep.engine.errors import ExportError

CPU = torch.device("cpu")
MOVES = (torch.ops.aten.lift_fresh.default, torch.ops.aten._to_copy.default)  # tensors from numpy


@dataclasses.dataclass(frozen=True)
class Form:
    """How a module takes float32 inputs.

    Attributes:
        device: Where its weights lie.
        dtype: Of x and the floating-point conditions.
        time: Of the times: float32, or float64 with ``dtype``; never 16 bits, which round it.
    """

    device: torch.device = CPU
    dtype: torch.dtype = torch.float32
    time: torch.dtype = torch.float32

    def place(self, x: torch.Tensor, *rest: torch.Tensor, times: int) -> tuple[Any, ...]:
        """A module's inputs on the device and of the dtypes: x, so many times, conditions."""
        fed, conditions = rest[:times], rest[times:]
        cast = [c.to(self.dtype) if c.dtype == torch.float32 else c for c in conditions]
        placed = (x.to(self.dtype), *(t.to(self.time) for t in fed), *cast)
        return tuple(value.to(self.device) for value in placed)


@contextlib.contextmanager
def calling(device: torch.device) -> Iterator[None]:
    """Where modules are run: no gradients, float32 products on a GPU not rounded to TF32.

    Never inference mode, also not the caller's: a tensor that forward keeps must stay usable in
    training.
    """
    from revstep.engine.backends.module.denoiser import _products

    with torch.inference_mode(False), torch.no_grad(), _products(device, False):
        yield


def in_eval_mode(module: torch.nn.Module) -> torch.nn.Module:
    """The module itself, or a copy in eval mode where a part of it is in train mode.

    The copy shares the memory of large weights, and is to be read alone.
    """
    if not any(m.training for m in module.modules()):
        return module
    return copy_module(module, shared_weights(module)).eval()


def find_form(module: torch.nn.Module, run: Callable[[Form], object]) -> Form:
    """The form that a module takes: the first of these with which ``run`` raises no ExportError.

    1. float32 x, time and conditions, as revstep has them;
    2. x and the floating-point conditions in the dtype of most of its weights, float32 time;
    3. for float64 weights: all three in float64.

    A time of 16 bits isn't tried: it rounds 937 to 936.

    Raises:
        ExportError: It takes none; what it said of the first.
    """
    first = next((t for t in (*module.parameters(), *module.buffers())), None)
    device = CPU if first is None else first.device
    weights = weight_dtype(module)
    forms = [Form(device)]
    if weights != torch.float32:
        forms.append(Form(device, weights))
    if weights == torch.float64:
        forms.append(Form(device, weights, weights))
    errors: list[ExportError] = []
    for form in forms:
        try:
            run(form)
        except ExportError as error:
            errors.append(error)
        else:
            return form
    raise errors[0]


class DtypeWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the dtypes of all that is computed while it is entered, in ``seen``.

    A cast of what was there before, as of a condition of a half dtype, rounds alike everywhere and
    computes nothing.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[torch.dtype] = set()
        self._computed = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in MOVES and args[0] not in self._computed:
            return result
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.seen.update(tensor.dtype for tensor in made)
        self._computed.update(dict.fromkeys(made))
        return result
