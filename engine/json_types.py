"""JSON values held to type annotations: what a manifest says is what its fields may be."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    dict: "an object",
    types.NoneType: "null",
}


def check_object(values: object, kinds: Mapping[str, Any], what: str) -> None:
    """Refuses what is no object, or has one of these fields with a value of another type.

    Fields that are missing or unknown are no matter here.

    Raises:
        TypeError: Naming the field, what was found, and what is allowed.
    """
    if not isinstance(values, dict):
        raise TypeError(f"{what} must be an object; got {_found(values)}")
    for name, kind in kinds.items():
        if name in values:
            check_json(values[name], kind, f"{what}'s {name}")


def check_json(value: object, kind: Any, what: str) -> None:
    """Refuses a value that JSON can't have written for an annotation such as ``float | None``.

    Tuples are lists (or still tuples); parts with a ``to_dict`` of their own are objects; a number
    is finite. An annotation of another kind allows everything.

    Raises:
        TypeError: Naming ``what``, what was found, and what is allowed.
    """
    if not _fits(value, kind):
        raise TypeError(f"{what} must be {_words(kind)}; got {_found(value)}")


def _fits(value: object, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _finite(value)
    if kind in (int, bool):
        return type(value) is kind
    if kind in WORDS:
        return isinstance(value, kind)
    if _is_part(kind):
        return isinstance(value, dict)
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, one) for one in inner)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(v, inner[1]) for v in value.values())
    if origin is tuple:
        if not isinstance(value, list | tuple):
            return False
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else inner
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    return True


def _words(kind: Any) -> str:
    if kind in WORDS:
        return WORDS[kind]
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(dict.fromkeys(map(_words, inner)))
    if origin is dict and inner[1] is not Any:
        return f"an object whose values are each {_words(inner[1])}"
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return f"a list whose items are each {_words(inner[0])}"
        return f"a list of {len(inner)}: {', '.join(map(_words, inner))}"
    return "an object"


def _is_part(kind: Any) -> bool:
    return isinstance(kind, type) and (dataclasses.is_dataclass(kind) or hasattr(kind, "to_dict"))


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond float64
        return False


def _found(value: object) -> str:
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{type(value).__name__} {value!r:.60}"
