"""A message that speaks of arguments, for readers who have other words for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple


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
        parts: Texts, other messages, and ``Argument``s, which the text has as Python writes them.
    """

    parts: tuple[str | Argument, ...]

    def __new__(cls, *parts: str | Argument) -> Message:
        """The text of the parts."""
        made = super().__new__(cls, "".join(map(str, parts)))
        lists = (part.parts if isinstance(part, Message) else (part,) for part in parts)
        made.parts = tuple(one for several in lists for one in several)
        return made

    def __getnewargs__(self) -> tuple[str | Argument, ...]:  # type: ignore[override]
        """What ``copy`` and ``pickle`` make it from."""
        return self.parts

    def spelled(self, spell: Callable[[Argument], str]) -> str:
        """The text with arguments as ``spell`` writes them."""
        return "".join(spell(p) if isinstance(p, Argument) else p for p in self.parts)
