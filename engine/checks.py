"""The checks of arguments: what was got, what is allowed, and the argument's name on the error.

``what`` is how a message calls the value: an argument's name, or words such as "the decoder's
scale". Numbers are Python's own (numpy's are no JSON, and would change a table's dtype) unless
``numpy`` allows its scalars too. A bool is never a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from revstep.engine.errors import ArgumentError, ArgumentTypeError
from revstep.engine.message import Argument, Message
from revstep.engine.nearest import unknown

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_ELEMENTS = 2**31 - 1  # per sample
SIZES = "positive whole numbers, without the batch"

T = TypeVar("T")


def got(value: object) -> str:
    """What was given, for a message: its type, and what is short of it."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    if isinstance(value, str):
        return f"{kind} {value!r:.60}"
    return f"{kind} {value!s:.60}" if isinstance(value, int | float | np.generic) else kind


def wrong_type(value: object, what: str, allowed: str) -> ArgumentTypeError:
    """The error of a value of a wrong type: ``steps must be a whole number; got float 2.5``."""
    own = " of Python's own" if isinstance(value, np.generic) else ""
    text = f" must be {allowed}{own}; got {got(value)}"
    return ArgumentTypeError(Message(Argument(what), text), what)


def wrong_value(value: object, what: str, allowed: str) -> ArgumentError:
    """The error of a value out of range: ``steps=0 is out of range; allowed: 1 to 1000``."""
    text = f" is out of range; {allowed}"
    return ArgumentError(Message(Argument(what, value), text), what)


def check_whole(
    value: object,
    what: str,
    low: int | None = None,
    high: int | None = None,
    *,
    numpy: bool = False,
    more: str = "",
) -> int:
    """The whole number, in [low, high]; ``more`` ends the message of one that isn't.

    Raises:
        ArgumentTypeError: No whole number.
        ArgumentError: Out of range.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer) if numpy else int):
        raise wrong_type(value, what, "a whole number")
    number = int(value)
    if (low is not None and number < low) or (high is not None and number > high):
        ends = f"{low} or more" if high is None else f"{low} to {high}"
        raise wrong_value(number, what, f"allowed: whole numbers, {ends}{more}")
    return number


def check_number(
    value: object,
    what: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    finite: bool = False,
    numpy: bool = False,
) -> float:
    """The number, in [low, high], or with ``above`` in (low, high]; never NaN where there are ends.

    Raises:
        ArgumentTypeError: No number.
        ArgumentError: Out of range, or not finite where it must be.
    """
    kinds = (int, float, np.integer, np.floating) if numpy else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise wrong_type(value, what, "a number")
    if finite and not math.isfinite(value):
        raise ArgumentError(Message(Argument(what), f" must be finite; got {value!r}"), what)
    if (low, high) != (-math.inf, math.inf) and (
        not low <= value <= high or (above and value == low)
    ):
        begin = "(" if above or math.isinf(low) else "["
        end = f"{high:g}]" if math.isfinite(high) else "infinity)"
        raise wrong_value(value, what, f"it lies in {begin}{low:g}, {end}")
    return value  # type: ignore[return-value]


def check_bool(value: object, what: str, *, numpy: bool = False) -> bool:
    """True or False.

    Raises:
        ArgumentTypeError: Something else.
    """
    if not isinstance(value, (bool, np.bool_) if numpy else bool):
        raise wrong_type(value, what, "True or False")
    return bool(value)


def check_type(value: object, what: str, kind: type[T], allowed: str) -> T:
    """The value, of that type.

    Raises:
        ArgumentTypeError: Of another type.
    """
    if not isinstance(value, kind):
        raise wrong_type(value, what, allowed)
    return value


def check_one_of(value: object, what: str, names: Iterable[str], more: str = "") -> str:
    """One of ``names``, after which the message has ``more``.

    Raises:
        ArgumentError: Another; says the nearest name.
    """
    names = tuple(names)
    if not isinstance(value, str) or value not in names:
        raise ArgumentError(unknown(what, value, names, more), what)
    return value


def check_function(value: object, what: str) -> None:
    """Refuses what can't be called.

    Raises:
        ArgumentTypeError: It can't.
    """
    if not callable(value):
        raise wrong_type(value, what, "a function or None")


def check_mapping(value: object, what: str, example: str) -> dict[str, Any]:
    """A mapping of names, as a dict of its own.

    Raises:
        ArgumentTypeError: None.
    """
    if not isinstance(value, Mapping):
        text = f" maps names to values, such as {example}; got {got(value)}"
        raise ArgumentTypeError(Message(Argument(what), text), what)
    return dict(value)


def check_sequence(value: object, what: str, allowed: str) -> tuple[Any, ...]:
    """A list or tuple, as a tuple.

    Raises:
        ArgumentTypeError: Something else.
    """
    if not isinstance(value, tuple | list):
        raise wrong_type(value, what, allowed)
    return tuple(value)


def check_shape(shape: object, what: str, *, empty: bool) -> None:
    """Refuses what is no shape of a sample.

    Raises:
        ArgumentError: No tuple of positive whole numbers, ``empty`` where it may not be, or of too
            many elements.
    """
    sizes = check_sequence(shape, what, SIZES)
    whole = all(isinstance(d, int) and not isinstance(d, bool) and d > 0 for d in sizes)
    if not whole or not (sizes or empty):
        raise ArgumentError(f"{what} must be {SIZES}; got {shape!r}", what)
    if math.prod(sizes) > MAX_ELEMENTS:
        text = f"{what} {shape!r:.60} has too many elements; allowed: {MAX_ELEMENTS:,}"
        raise ArgumentError(text, what)


def check_identifier(name: object, what: str) -> None:
    """Refuses what is no identifier of an ONNX input.

    Raises:
        ArgumentError: It is none.
    """
    if not isinstance(name, str) or not IDENTIFIER.fullmatch(name):
        raise ArgumentError(
            f"{what} must be letters, digits and _, not starting with a digit: {name!r}",
            what,
        )
