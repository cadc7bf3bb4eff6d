"""Types of a sampler's options, as a name and words give them."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["check_types"]

WORDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool, np.bool_), "true or false"),
    int: ((int, np.integer), "a whole number"),
    float: ((int, float, np.integer, np.floating), "a number"),
    str: ((str,), "a name"),
}


def check_types(cls: type, options: Mapping[str, Any]) -> None:
    """Compares options with a dataclass's annotations; those that are no plain types pass.

    Raises:
        ValueError: An option of another type.
    """
    if not options:
        return  # half of a short call's own time
    hints = typing.get_type_hints(cls)
    for name, value in options.items():
        kinds = typing.get_args(hints[name]) or (hints[name],)
        if any(kind not in WORDS and kind is not type(None) for kind in kinds):
            continue
        if not any(_fits(value, kind) for kind in kinds):
            words = [WORDS[kind][1] for kind in kinds if kind in WORDS]
            words += ["none"] * (type(None) in kinds)
            raise ValueError(f"option {name} must be {' or '.join(words)}; got {value!r}")


def _fits(value: object, kind: type) -> bool:
    if kind is type(None):
        return value is None
    if isinstance(value, (bool, np.bool_)):
        return kind is bool
    return isinstance(value, WORDS[kind][0])
