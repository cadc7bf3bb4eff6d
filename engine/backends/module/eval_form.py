"""A live module as it runs in eval mode, whatever mode its owner has it in."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import operator
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

from revstep.engine.errors import BackendError

Run = Callable[..., torch.Tensor]
FIX = "call module.eval() before sampling, and module.train() after it"


@dataclasses.dataclass(frozen=True, slots=True)
class _Copy:
    module: torch.nn.Module
    run: Run
    state: list[Any]  # the attributes it was made from


class EvalForm:
    """Runs a module as its owner has it where all of it is in eval mode, else a copy in eval mode.

    The owner's own mode is never changed: it may be training in another thread. The copy shares
    weights and buffers, so it follows the optimizer, and moves no running statistics.

    Args:
        module: The module.
        wrap: Makes of a module what runs it (``torch.compile``).
    """

    def __init__(self, module: torch.nn.Module, wrap: Callable[[Any], Run] | None = None) -> None:
        self._module = module
        self._wrap: Callable[[Any], Run] = wrap or (lambda module: module)
        self._own = self._wrap(module)
        self._parts = parts_of(module)
        self._copy: _Copy | None = None
        self._kept: list[torch.nn.Module] = []

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The module's output in eval mode.

        Raises:
            BackendError: It is in train mode, and no copy of it runs alone.
        """
        for part in self._parts:  # one flag a module: microseconds
            if part.training:
                return self._in_eval(inputs).run(*inputs)
        return self._own(*inputs)

    def refresh(self) -> None:
        """Takes up what was changed in the module since the last run: parts, attributes, hooks."""
        self._parts = parts_of(self._module)
        if self._copy is not None and not _same(self._copy.state, _state(self._parts)):
            self._copy = None

    def _in_eval(self, inputs: tuple[torch.Tensor, ...]) -> _Copy:
        found = self._copy
        if found is None:
            state = _state(self._parts)
            module = _eval_copy(self._module, self._parts)
            with _refusing(self._parts):
                module(*(value.clone() for value in inputs))
            found = self._copy = _Copy(module, self._wrap(module), state)
            if inputs[0].is_cuda:  # captured steps read what the copy keeps
                self._kept.append(module)
        return found


def parts_of(module: torch.nn.Module) -> list[torch.nn.Module]:
    """The module and all below it; several times what is there several times."""
    parts = [module]
    for part in parts:
        parts.extend(child for child in part._modules.values() if child is not None)
    return parts


def _eval_copy(module: torch.nn.Module, parts: list[torch.nn.Module]) -> torch.nn.Module:
    """A copy that shares every tensor held by a part, in eval mode."""
    held = (d.values() for p in parts for d in (p.__dict__, p._parameters, p._buffers))
    shared = {id(v): v for values in held for v in values if isinstance(v, torch.Tensor)}
    try:
        with torch.inference_mode(False):  # it outlives the caller's mode
            return copy.deepcopy(module, shared).eval()
    except Exception as error:  # a lock, a process group, a graph's tensor: each its own error
        raise BackendError(
            f"the module is in train mode, and no copy of it in eval mode can be made ({error}); "
            f"{FIX}"
        ) from error


@contextlib.contextmanager
def _refusing(parts: list[torch.nn.Module]) -> Iterator[None]:
    """Refuses calls of these modules in this thread: a closure may lead a copy back to them."""
    refused, me = {id(part) for part in parts}, threading.get_ident()

    def check(module: torch.nn.Module, _: Any) -> None:
        if id(module) in refused and threading.get_ident() == me:
            raise BackendError(
                "the module is in train mode, and a copy of it in eval mode calls the original's "
                f"{type(module).__name__}, through a closure or a global; {FIX}"
            )

    handle = torch.nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _state(parts: list[torch.nn.Module]) -> list[Any]:
    """Everything that the modules hold, to be compared by identity."""
    return [
        value
        for p in parts
        for held in (
            *(p.__dict__, p._parameters, p._buffers, p._modules),
            *(p._forward_hooks, p._forward_pre_hooks),
        )
        for value in held.values()
    ]


def _same(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(map(operator.is_, a, b))
