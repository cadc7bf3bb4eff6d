"""Protocol buffers' text format, in which Triton reads a model's configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class Name(str):
    """A name of an enumeration, which is written without quotes: ``TYPE_FP32``."""

    __slots__ = ()


Value: TypeAlias = "str | int | Mapping[str, Value] | Sequence[Value]"


def text_format(message: Mapping[str, Value]) -> str:
    """A message as text, a field a line.

    Args:
        message: Field -> value: a message of its own, or a list for a repeated field.
    """
    return "".join(f"{line}\n" for line in _lines(message))


def _lines(message: Mapping[str, Value], indent: str = "") -> Iterator[str]:
    for field, value in message.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            if any(isinstance(one, Mapping) for one in value):
                for one in value:
                    yield from _lines({field: one}, indent)
            else:
                yield f"{indent}{field}: [{', '.join(map(_scalar, value))}]"
        elif isinstance(value, Mapping):
            yield f"{indent}{field} {{"
            yield from _lines(value, indent + "  ")
            yield f"{indent}}}"
        else:
            yield f"{indent}{field}: {_scalar(value)}"


def _scalar(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not isinstance(value, Name):
        return '"' + "".join(map(_escaped, value)) + '"'
    return str(value)


def _escaped(letter: str) -> str:
    if letter in ESCAPES or letter.isprintable():
        return ESCAPES.get(letter, letter)
    return "".join(f"\\{byte:03o}" for byte in letter.encode())
