"""diffusers' schedulers computed in float64, or as shipped, with noise passed in."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np

INSTALL = "the proofs compare with diffusers: pip install 'diffusers>=0.38' torch scipy"


class _Float64:
    """A module in which float32 reads as float64."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.float32 = module.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def module_of(scheduler: str) -> ModuleType:
    """The module of one of diffusers' scheduler classes.

    Raises:
        ModuleNotFoundError: diffusers or torch is missing; the message says what to install.
    """
    try:
        diffusers = importlib.import_module("diffusers")
        diffusers.utils.logging.set_verbosity_error()  # one scheduler makes another, and says so
        return importlib.import_module(getattr(diffusers, scheduler).__module__)
    except (ModuleNotFoundError, RuntimeError) as error:
        raise ModuleNotFoundError(INSTALL) from error


@contextmanager
def in_float64(module: ModuleType) -> Iterator[None]:
    """A module of diffusers that finds float64 under the name float32."""
    torch = importlib.import_module("torch")
    before = torch.get_default_dtype()
    with (
        mock.patch.object(module, "torch", _Float64(torch)),
        mock.patch.object(module, "np", _Float64(np), create=True),
    ):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@contextmanager
def schedulers(
    name: str, *, double: bool, noise: Callable[[], Any] | None = None
) -> Iterator[type[Any]]:
    """The scheduler class, its tables, grids and steps in float64 where ``double``.

    diffusers keeps tables, and many schedulers the state, in float32. With ``double`` its code
    runs unchanged, but finds float64 under the name float32.

    Args:
        name: The class.
        double: Whether to compute in float64.
        noise: The scheduler's noise, in place of random numbers.
    """
    module = module_of(name)
    torch = importlib.import_module("torch")
    with ExitStack() as stack:
        if double:
            stack.enter_context(in_float64(module))
        if noise is not None and hasattr(module, "randn_tensor"):
            draw = lambda *_, **__: torch.from_numpy(noise())  # noqa: E731
            stack.enter_context(mock.patch.object(module, "randn_tensor", draw))
        yield getattr(module, name)
