"""Inputs of a file that always have one value, as the file takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import ExportError
from revstep.engine.nearest import unknown_names
from revstep.export.sources.onnx_file.ports import DTYPES, FilePort, OnnxFile
from revstep.export.sources.onnx_file.wiring import sizes

NUMBERS = tuple(d for d in DTYPES.values() if d != "string")


def constants(file: OnnxFile, given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """The values by the inputs' names, of the inputs' dtypes and shapes.

    Raises:
        ExportError: No such input, or a value that it can't have.
    """
    ports = {p.name: p for p in file.inputs}
    if others := set(given) - set(ports):
        names = unknown_names("[constants] names no input:", others, ports)
        raise ExportError(f"{file.path}: {names}")
    found = {}
    for name, value in given.items():
        try:
            found[name] = _shaped(_values(value, ports[name]), ports[name])
        except (TypeError, ValueError) as error:
            raise ExportError(
                f"{file.path}: [constants] {name} = {value!r:.60} can't be the input "
                f"{ports[name]}: {error}"
            ) from error
    return found


def _values(value: object, port: FilePort) -> NDArray[Any]:
    """A value in the input's dtype, without loss; a float rounded."""
    if port.dtype not in NUMBERS:
        raise TypeError("an input of that type can have no constant")
    given = np.asarray(value)
    if given.dtype.kind not in "biuf":
        raise TypeError("give a number, or a list of numbers")
    dtype = np.dtype("float32" if port.dtype == "bfloat16" else port.dtype)
    with np.errstate(all="ignore"):
        array = given.astype(dtype)
    if dtype.kind == "f" and np.any(np.isfinite(given) & ~np.isfinite(array)):
        raise ValueError(f"{port.dtype} has no number as large")
    if dtype.kind != "f" and not np.array_equal(array, given):
        raise ValueError(
            "give True or False" if dtype.kind == "b" else f"give a whole number that {dtype} has"
        )
    return array


def _shaped(array: NDArray[Any], port: FilePort) -> NDArray[Any]:
    """A value spread over the input's axes; a free one is as long as the value's, or 1."""
    dims = port.dims or ()
    wanted = sizes(dims, array.shape if array.ndim == len(dims) else (1,) * len(dims))
    try:
        return np.ascontiguousarray(np.broadcast_to(array, wanted)).reshape(wanted)
    except ValueError:
        raise ValueError(f"its shape is {array.shape}; allowed: {wanted}, or one number") from None
