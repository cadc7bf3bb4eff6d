"""``--class``, ``--condition`` and ``--input`` as arrays."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.commands.input_files import load_array
from revstep.commands.parse import name_and_value, numbers
from revstep.engine.nearest import unknown_names
from revstep.engine.spec.denoiser import Condition, DenoiserSpec

TRUTH = {"true": "1", "false": "0"}


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


def given_conditions(
    spec: DenoiserSpec, class_: str | None, texts: list[str]
) -> dict[str, NDArray[Any]]:
    """What ``--class`` and every ``--condition`` give: name -> ``condition_values``.

    Raises:
        ValueError: One is given twice, or as the others.
    """
    named = [name_and_value(text, "--condition") for text in texts]
    if class_ is not None:
        named.insert(0, (class_condition(spec).name, class_))
    values: dict[str, NDArray[Any]] = {}
    for name, text in named:
        if name in values:
            raise ValueError(f"condition {name!r} is given twice")
        values[name] = condition_values(spec, name, text)
    return values


def check_negative(negative_prompt: str | None, guidance: float) -> None:
    """Refuses a negative prompt that nothing would read.

    Raises:
        ValueError: There is no guidance.
    """
    if negative_prompt is not None and guidance == 1.0:
        raise ValueError(
            "--negative-prompt changes nothing without guidance; give --guidance 7.5, or leave it "
            "out"
        )


def given_inputs(spec: DenoiserSpec, texts: list[str]) -> dict[str, NDArray[Any]]:
    """What every ``--input`` gives to the bundle's encoders: name -> (m, *shape).

    Raises:
        ValueError: One is given twice, or as ``condition_values``.
    """
    known = {c.name: c for encoder in spec.encoders for c in encoder.inputs}
    values: dict[str, NDArray[Any]] = {}
    for text in texts:
        name, value = name_and_value(text, "--input")
        if name in values:
            raise ValueError(f"input {name!r} is given twice")
        if name not in known:
            if not known:
                raise ValueError(f"this bundle has no encoder, so no input {name!r}")
            raise ValueError(unknown_names("this bundle has no input", [repr(name)], known))
        values[name] = _values(known[name], value, f"input {name!r}")
    return values


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
    return _values(known[name], text, f"condition {name!r}")


def _values(condition: Condition, text: str, what: str) -> NDArray[Any]:
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
