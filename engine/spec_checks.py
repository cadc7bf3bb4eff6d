"""Checks of a spec's fields: what was got, what is allowed."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

__all__ = [
    "SHAPE",
    "as_tuple",
    "check_bool",
    "check_name",
    "check_number",
    "check_shape",
    "check_whole",
    "fields_from",
    "got",
]

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHAPE = "a tuple of positive whole numbers, without the batch, as (3, 32, 32)"


def fields_from(cls: type, values: dict[str, Any], what: str) -> dict[str, Any]:
    """The fields of ``cls`` from JSON; unknown ones are refused."""
    if not isinstance(values, dict):
        raise ValueError(f"{what} must be an object; got {type(values).__name__}")
    known = {f.name for f in dataclasses.fields(cls)}
    if unknown := set(values) - known:
        raise ValueError(
            f"unknown field of {what}: {', '.join(sorted(unknown))}; "
            f"allowed: {', '.join(sorted(known))}"
        )
    return dict(values)


def check_name(name: object, what: str) -> None:
    """Refuses what is no identifier of an ONNX input."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"{what} must be letters, digits and _, not starting with a digit: {name!r}"
        )


def got(value: object) -> str:
    """What was given, for a message."""
    return (
        f"{type(value).__name__} {value!r}"
        if isinstance(value, str | int | float)
        else (type(value).__name__)
    )


def as_tuple(value: object, what: str, allowed: str) -> tuple[Any, ...]:
    """A list or tuple as a tuple."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"{what} must be {allowed}; got {got(value)}")
    return tuple(value)


def check_whole(value: object, what: str) -> None:
    """Refuses what is no whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} must be a whole number; got {got(value)}")


def check_number(value: object, what: str) -> None:
    """Refuses what is no number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{what} must be a number; got {got(value)}")


def check_bool(value: object, what: str) -> None:
    """Refuses what is no bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False; got {got(value)}")


def check_shape(shape: object, what: str, *, empty: bool) -> None:
    """Refuses what is no shape."""
    ok = isinstance(shape, tuple) and all(
        isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in shape
    )
    if not ok or (not shape and not empty):
        raise ValueError(f"{what} must be positive whole numbers, without the batch; got {shape!r}")
