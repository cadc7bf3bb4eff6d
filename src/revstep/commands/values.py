"""Values written on the command line: ``name=value``, lists and ranges, ``.npy`` files."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.nearest import unknown_names
from revstep.engine.spec.denoiser import Condition, DenoiserSpec

__all__ = [
    "byte_count",
    "class_condition",
    "condition_values",
    "load_array",
    "names",
    "numbers",
    "options",
    "split",
    "whole_numbers",
]

MAX_VALUES = 1_000_000
TRUTH = {"true": "1", "false": "0"}
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def split(text: str, what: str) -> tuple[str, str]:
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
        name, value = split(text, "--set")
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


def numbers(text: str, what: str) -> list[float]:
    """``3``, ``0,3,5``, ``0-9``, ``0.5,-1`` or a mixture, as numbers.

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
            raise ValueError(
                f"{what} must be numbers such as 3, 0,3,5 or 0-9; got {text!r}"
            ) from None
        if not math.isfinite(value):
            raise ValueError(f"{what} must be finite; got {text!r}")
        found.append(value)
    return found


def whole_numbers(text: str, what: str) -> list[int]:
    """``1``, ``1,8,64`` or ``1-4``, as positive whole numbers.

    Raises:
        ValueError: Something else.
    """
    found = numbers(text, what)
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


def load_array(path: Path, what: str) -> NDArray[Any]:
    """The array of a ``.npy`` file; never unpickles.

    Raises:
        ValueError: Not a readable array of numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):  # numpy's words advise to unpickle
        raise ValueError(
            f"{what}: {path} is no readable .npy file of numbers; write it with numpy.save"
        ) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"{what}: {path} must hold one array of numbers")
    return array


def class_condition(spec: DenoiserSpec) -> Condition:
    """The condition that ``--class`` means: the only class label.

    Raises:
        ValueError: There is none, or more than one.
    """
    labels = [c for c in spec.conditions if "int" in c.dtype and set(c.shape) <= {1}]
    if len(labels) != 1:
        if not spec.conditions:
            raise ValueError("--class needs a class label; this denoiser has no conditions at all")
        have = ", ".join(c.name for c in spec.conditions)
        raise ValueError(
            f"--class needs exactly one class label; this denoiser's conditions: {have}. "
            "Use --condition name=value"
        )
    return labels[0]


def condition_values(spec: DenoiserSpec, name: str, text: str) -> NDArray[Any]:
    """The values of one condition: (m, *shape) in its dtype, one for each group of samples.

    A condition of one number takes a list or range (m values); another takes its elements, one
    value for all samples (m = 1), or a ``.npy`` file of shape ``shape`` or (m, *shape).

    Raises:
        ValueError: An unknown name, a wrong number of values, or fractions for whole numbers.
    """
    known = {c.name: c for c in spec.conditions}
    if name not in known:
        if not known:
            raise ValueError(f"this denoiser has no condition {name!r}: it is unconditional")
        raise ValueError(unknown_names("this denoiser has no condition", [repr(name)], known))
    condition = known[name]
    what = f"condition {name!r}"
    if text.endswith(".npy"):
        array = load_array(Path(text), what)
    else:
        array = np.asarray(_numbers(text, condition, what), np.float64)
        if set(condition.shape) == {1}:
            array = array.reshape(-1, *condition.shape)
        elif condition.shape:
            if array.size != math.prod(condition.shape):
                raise ValueError(
                    f"{what} has shape {condition.shape}: give {math.prod(condition.shape)} "
                    f"numbers or a .npy file; got {array.size} numbers"
                )
            array = array.reshape(condition.shape)
    if array.shape == condition.shape:
        array = array[None]
    if array.shape[1:] != condition.shape or not len(array):
        raise ValueError(
            f"{what} must have shape {condition.shape} or (m, *shape); got {array.shape}"
        )
    return _cast(array, condition, what)


def _numbers(text: str, condition: Condition, what: str) -> list[float]:
    """``numbers``, and true and false for bools."""
    if condition.dtype != "bool":
        return numbers(text, what)
    parts = [part.strip().lower() for part in text.split(",")]
    try:
        return numbers(",".join(TRUTH.get(part, part) for part in parts), what)
    except ValueError:
        raise ValueError(
            f"{what} must be true, false, 1 or 0, or a list of them; got {text!r}"
        ) from None


def _cast(array: NDArray[Any], condition: Condition, what: str) -> NDArray[Any]:
    if condition.interface != "float32":
        whole = array if array.dtype == bool else np.asarray(array, np.int64)
        if not np.array_equal(whole, array):
            raise ValueError(f"{what} takes whole numbers")
        return condition.values(whole, what)
    return np.asarray(array, np.float32)
