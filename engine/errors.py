"""The errors that revstep raises: for wrong arguments, and for failed builds, loads and runs.

Every message says what was got, what is allowed and how to fix it. Where it speaks of arguments
it is a ``Message``, so that the command line and servers can write them in their own words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

__all__ = [
    "Argument",
    "ArgumentError",
    "ArgumentTypeError",
    "BackendError",
    "BundleError",
    "Cancelled",
    "CapacityError",
    "CompileError",
    "DeviceMemoryError",
    "ExportError",
    "Message",
    "NonFiniteError",
    "ParityError",
    "ProgramError",
    "RevstepError",
]


class Argument(NamedTuple):
    """An argument of revstep's functions, as a message names it: ``steps=5``.

    Attributes:
        name: Its name.
        value: Its value; of a mapping only the keys are shown; ``...`` leaves the name alone.
    """

    name: str
    value: object = ...

    def __str__(self) -> str:
        if self.value is ...:
            return self.name
        if isinstance(self.value, Mapping):
            keys = ", ".join(f"{key!r}: ..." for key in self.value)
            return f"{self.name}={{{keys or '...'}}}"
        return f"{self.name}={self.value!r}"


class Message(str):
    """A text that knows which of its words are arguments.

    Args:
        parts: Texts and ``Argument``s, which the text has as Python writes them.
    """

    parts: tuple[str | Argument, ...]

    def __new__(cls, *parts: str | Argument) -> Message:
        """The text of the parts."""
        made = super().__new__(cls, "".join(map(str, parts)))
        made.parts = parts
        return made

    def __getnewargs__(self) -> tuple[str | Argument, ...]:  # type: ignore[override]
        """What ``copy`` and ``pickle`` make it from."""
        return self.parts

    def spelled(self, spell: Callable[[Argument], str]) -> str:
        """The text with arguments as ``spell`` writes them."""
        return "".join(spell(p) if isinstance(p, Argument) else p for p in self.parts)


class ArgumentError(ValueError):
    """A caller's wrong argument.

    Args:
        message: What was got, what is allowed, how to fix it.
        what: The argument's name, or words for a part of one, such as "the decoder's scale".

    Attributes:
        argument: The argument's name; empty where ``what`` is none.
    """

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.argument = what if what.isidentifier() else ""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a wrong type: a ``TypeError``, and as all wrong arguments a ``ValueError``."""


class RevstepError(Exception):
    """Base of the package's own errors."""


class BundleError(RevstepError):
    """A bundle that can't be read: damaged, of another version, or leaving its directory."""


class ExportError(RevstepError):
    """An export that failed; no bundle was written."""


class CompileError(RevstepError):
    """A compilation that failed; the bundle is as it was."""


class ParityError(CompileError):
    """A compiled network that differs from the reference by more than the bound."""


class BackendError(RevstepError):
    """A backend that is missing or can't run this bundle on this machine."""


class CapacityError(BackendError):
    """No room for another program beside those that run; a later try may find some."""


class DeviceMemoryError(BackendError):
    """A GPU without enough memory; the engine stays usable."""


class ProgramError(RevstepError, ValueError):
    """A sampler that can't be a program: not affine, non-finite, or reaching too far back."""


class NonFiniteError(RevstepError):
    """A run whose network output held NaN or infinity."""


class Cancelled(RevstepError):  # noqa: N818  (not an error of anybody)
    """A run that its caller cancelled."""
