"""Options' texts as numbers, names and ``name=value`` pairs."""

from __future__ import annotations

import ast
import math
from typing import Any

MAX_VALUES = 1_000_000
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def name_and_value(text: str, what: str) -> tuple[str, str]:
    """``name=value`` as its two halves.

    Raises:
        ValueError: No ``=``, or an empty half.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not (name and equals and value):
        raise ValueError(f"{what} must be written name=value; got {text!r}")
    return name, value


def options(texts: list[str]) -> dict[str, Any]:
    """``["eta=0.5", "variance=large"]`` as a dict; numbers and true/false are read as such.

    Raises:
        ValueError: Not ``name=value``, or a name given twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, value = name_and_value(text, "--set")
        if name in found:
            raise ValueError(f"--set {name} is given twice")
        found[name] = _literal(value)
    return found


def _literal(text: str) -> Any:
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, (int, float, str)) else text


def numbers(text: str, what: str, such: str = "3, 0,3,5 or 0-9") -> list[float]:
    """``3``, ``0,3,5``, ``0-9``, ``0.5,-1`` or a mixture, as numbers.

    Args:
        text: The option's text.
        what: The option, for errors.
        such: Examples of what it may be, for errors.

    Raises:
        ValueError: Something else, a falling or a huge range.
    """
    found: list[float] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if dash and first.isdecimal() and last.isdecimal():
            low, high = int(first), int(last)
            if low > high or high - low >= MAX_VALUES:
                raise ValueError(f"{what}: the range {part.strip()!r} must rise, to a sane length")
            found.extend(range(low, high + 1))
            continue
        try:
            value = float(part)
        except ValueError:
            raise ValueError(f"{what} must be numbers such as {such}; got {text!r}") from None
        if not math.isfinite(value):
            raise ValueError(f"{what} must be finite; got {text!r}")
        found.append(value)
    return found


def whole_numbers(text: str, what: str) -> list[int]:
    """``1``, ``1,8,64`` or ``1-4``, as positive whole numbers.

    Raises:
        ValueError: Something else.
    """
    found = numbers(text, what, "1, 1,8,64 or 1-4")
    if any(value < 1 or value != int(value) for value in found):
        raise ValueError(f"{what} must be whole numbers of at least 1; got {text!r}")
    return [int(value) for value in found]


def names(text: str, what: str) -> list[str]:
    """``a,b`` as its parts.

    Raises:
        ValueError: An empty part.
    """
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise ValueError(f"{what} must be names with commas between them; got {text!r}")
    return found


def duration(text: str, what: str) -> float:
    """``20ms``, ``0.5s``, ``500us`` or ``2min`` in seconds.

    Raises:
        ValueError: Something else, or not above 0.
    """
    number = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = SECONDS.get(text.strip()[len(number) :])
    try:
        found = float(number) * (unit or math.nan)
    except ValueError:
        found = math.nan
    if not 0.0 < found < math.inf:
        raise ValueError(f"{what} must be a time such as 20ms, 500us or 1.5s; got {text!r}")
    return found


def byte_count(text: str, what: str) -> int:
    """``512M`` or ``2G`` as a number of bytes, in units of 1024; without a unit, bytes.

    Raises:
        ValueError: Something else, or less than 1.
    """
    number, unit = text.strip(), 1
    if number[-1:].upper() in UNITS:
        number, unit = number[:-1], UNITS[number[-1].upper()]
    try:
        count = int(float(number) * unit)
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise ValueError(f"{what} must be a size such as 512M or 2G; got {text!r}")
    return count
