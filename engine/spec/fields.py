"""Checks of a spec's fields: what was got, what is allowed."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from typing import Any

from revstep.engine.json_types import check_object
from revstep.engine.nearest import unknown_names

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
# Fields that a manifest may lack, at their defaults: bundles were written before there were any.
LATER: dict[str, tuple[str, ...]] = {
    "VESchedule": ("levels", "rho", "sigmas"),
    "TrailingGrid": ("first",),
    "LeadingGrid": ("first",),
    "KarrasGrid": ("ends",),
    "ExponentialGrid": ("ends",),
    "BetaGrid": ("ends",),
    "Condition": ("limits", "example"),
    "CompiledEntry": ("tuned",),
}
MOST = 2**31 - 1  # elements a sample
SHAPE = "a tuple of positive whole numbers, without the batch, as (3, 32, 32)"


def fields_from(cls: type, values: object, what: str) -> dict[str, Any]:
    """The fields of the dataclass ``cls`` from JSON: all of them, each of its annotation's type.

    Only what is in ``LATER`` may be missing.

    Raises:
        ValueError: An unknown or a missing field.
        TypeError: No object, or a field of another type.
    """
    check_object(values, typing.get_type_hints(cls), what)
    given = dict(typing.cast("dict[str, Any]", values))
    known = [f.name for f in dataclasses.fields(cls)]
    if others := set(given) - set(known):
        raise ValueError(unknown_names(f"unknown field of {what}:", others, known))
    later = LATER.get(cls.__name__, ())
    if missing := [name for name in known if name not in given and name not in later]:
        raise ValueError(f"{what} lacks {', '.join(missing)}; a manifest holds every field")
    return given


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


def check_shape(shape: Any, what: str, *, empty: bool) -> None:
    """Refuses what is no shape."""
    ok = isinstance(shape, tuple) and all(
        isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in shape
    )
    if not ok or (not shape and not empty):
        raise ValueError(f"{what} must be positive whole numbers, without the batch; got {shape!r}")
    if math.prod(shape) > MOST:
        raise ValueError(f"{what} {shape!r:.60} has too many elements; the most are {MOST:,}")
