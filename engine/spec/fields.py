"""A spec's fields, read from JSON."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any

from revstep.engine.json_types import check_object
from revstep.engine.nearest import unknown_names

# Fields that a manifest may lack, at their defaults: bundles were written before there were any.
LATER: dict[str, tuple[str, ...]] = {
    "VPSchedule": ("snr_shift",),
    "VESchedule": ("levels", "rho", "sigmas"),
    "TrailingGrid": ("first",),
    "LeadingGrid": ("first",),
    "KarrasGrid": ("ends",),
    "ExponentialGrid": ("ends",),
    "BetaGrid": ("ends",),
    "Condition": ("limits", "example"),
    "Decoder": ("tile", "overlap"),
    "DenoiserSpec": ("encoders", "picture_encoder", "sampler", "second_time"),
    "CompiledEntry": ("tuned", "choice", "part"),
}
KEYS = {"grid": "spacing", "grid_offset": "spacing_offset"}  # where JSON has another name
SHAPE = "a tuple of positive whole numbers, without the batch, as (3, 32, 32)"


def fields_from(cls: type, values: object, what: str) -> dict[str, Any]:
    """The fields of the dataclass ``cls`` from JSON: all of them, each of its annotation's type.

    Only what is in ``LATER`` may be missing.

    Raises:
        ValueError: An unknown or a missing field.
        TypeError: No object, or a field of another type.
    """
    check_object(values, keyed(typing.get_type_hints(cls)), what)
    given = dict(typing.cast("dict[str, Any]", values))
    known = [KEYS.get(f.name, f.name) for f in dataclasses.fields(cls)]
    if others := set(given) - set(known):
        raise ValueError(unknown_names(f"unknown field of {what}:", others, known))
    later = LATER.get(cls.__name__, ())
    if missing := [name for name in known if name not in given and name not in later]:
        raise ValueError(f"{what} lacks {', '.join(missing)}; a manifest holds every field")
    return unkeyed(given)


def keyed(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields by their keys in JSON."""
    return {KEYS.get(name, name): value for name, value in fields.items()}


def unkeyed(values: dict[str, Any]) -> dict[str, Any]:
    """The values of JSON by their fields' names."""
    fields = {key: name for name, key in KEYS.items()}
    return {fields.get(key, key): value for key, value in values.items()}
