"""Arguments under their old names, which work for one more version with a warning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that takes arguments by their old names too: ``@renamed(spacing="grid")``.

    An old name beside the new one wins: ``dataclasses.replace`` gives the new one always.
    """

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **keywords: P.kwargs) -> R:
            for old, new in names.items():
                if old in keywords:
                    _warn(old, new)
                    keywords[new] = keywords.pop(old)
            return function(*args, **keywords)

        return call

    return wrap


def renamed_fields(**names: str) -> Callable[[type[T]], type[T]]:
    """A dataclass whose fields are given, read and unpickled by their old names too."""

    def wrap(cls: type[T]) -> type[T]:
        cls.__init__ = renamed(**names)(cls.__init__)  # type: ignore[method-assign]
        for old, new in names.items():
            read = functools.partial(_read, old, new)
            setattr(cls, old, property(read, doc=f"``{new}``, by its old name."))
        if "__slots__" not in vars(cls):  # whose pickles have no names

            def restore(self: T, state: dict[str, object]) -> None:
                vars(self).update({names.get(name, name): v for name, v in state.items()})

            cls.__setstate__ = restore  # type: ignore[attr-defined]
        return cls

    return wrap


def _read(old: str, new: str, owner: object) -> object:
    _warn(old, new)
    return getattr(owner, new)


def _warn(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=3)
