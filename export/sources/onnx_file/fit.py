"""A spec held to its file: what the spec leaves to the file, and how the two are wired."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from revstep.engine.checks import IDENTIFIER
from revstep.engine.errors import ExportError
from revstep.engine.program.samplers import resolve_sampler
from revstep.engine.spec.denoiser import DenoiserSpec, TimeInput
from revstep.export.sources.onnx_file.names import STATE, TIME, TIMES, InputName, Names
from revstep.export.sources.onnx_file.ports import Dims, FilePort, OnnxFile
from revstep.export.sources.onnx_file.spec_file import Values, refuse_parts, spec_of, split
from revstep.export.sources.onnx_file.wire import input_port, wire
from revstep.export.sources.onnx_file.wiring import Wiring, own_axes

(ANY_BATCH,) = (f.default for f in dataclasses.fields(DenoiserSpec) if f.name == "batch")
CONDITION_DTYPES = {  # what the file takes -> what the spec says, where it says nothing
    "float32": "float32", "float16": "float32", "bfloat16": "float32", "float64": "float32",
    "int64": "int64", "uint32": "int64", "uint64": "int64",
    "int32": "int32", "int16": "int32", "int8": "int32", "uint16": "int32", "uint8": "int32",
    "bool": "bool",
}  # fmt: skip


def fit(
    file: OnnxFile, given: DenoiserSpec | Mapping[str, Any], names: Names | None = None
) -> tuple[DenoiserSpec, Names, Wiring]:
    """The spec, whole, and the wiring of a file.

    Args:
        file: The file.
        given: The spec; or its fields as TOML has them, with the names among them. What they leave
            out of shapes, dtypes and the batch is the file's.
        names: What the file calls its inputs, beside a ``DenoiserSpec``.

    Raises:
        ExportError: The spec contradicts the file.
        ValueError: An unknown field, or a value that is not allowed.
        TypeError: A value of another type.
    """
    if isinstance(given, DenoiserSpec):
        spec, names = given, names or Names()
        refuse_parts({field.name: getattr(spec, field.name) for field in dataclasses.fields(spec)})
        wiring = wire(file, spec, names)
        own_batch = spec.batch != ANY_BATCH
    else:
        values, names = split(given)
        spec = spec_of(_completed(file, values, names))
        wiring = wire(file, spec, names)
        own_batch = "batch" in values
    if spec.sampler is not None:
        resolve_sampler(spec.sampler)  # refuses an unknown name or option
    narrow = _with_batch(file, spec, wiring, own_batch)
    if narrow.batch != spec.batch:
        wiring = dataclasses.replace(wiring, wanted=spec.batch, must=own_batch)
    return narrow, names, wiring


def _completed(file: OnnxFile, values: Values, names: Names) -> Values:
    """The fields, with what they leave to the file: names, the shape, conditions' dtypes."""
    found = dict(values)
    state = input_port(file, STATE, names.of(STATE, str(values.get("name", "sample"))))
    if "name" not in found and IDENTIFIER.fullmatch(state.name):
        found["name"] = state.name
    for key in TIMES:
        time, called = values.get(key, {}), names.inputs.get(key, InputName(name="")).name
        if isinstance(time, Mapping) and "name" not in time and IDENTIFIER.fullmatch(called):
            found[key] = {**time, "name": called}
    time = next((p for p in file.inputs if p.name == _time_name(found, names)), None)
    if "shape" not in found:
        sizes = _sizes(file, state, own_axes(state, time))
        if not sizes:
            raise ExportError(
                f"{file.path}: the state is the input {state}, which is one number a row; say "
                'which input is the noisy state: [inputs] state = "..."'
            )
        last = names.of(STATE, state.name).channels_last
        found["shape"] = [*sizes[-1:], *sizes[:-1]] if last else sizes
    shape = found["shape"]
    rows = isinstance(shape, list | tuple) and len(state.dims or ()) > len(shape)
    conditions = values.get("conditions", ())
    if isinstance(conditions, list) and all(isinstance(c, Mapping) for c in conditions):
        found["conditions"] = [_completed_condition(file, c, names, rows) for c in conditions]
    return found


def _time_name(values: Values, names: Names) -> str:
    time = values.get("time", {})
    own = time.get("name") if isinstance(time, Mapping) else None
    return names.of(TIME, own if isinstance(own, str) else TimeInput().name).name


def _completed_condition(
    file: OnnxFile, values: Mapping[str, Any], names: Names, rows: bool
) -> Values:
    name = values.get("name")
    if not isinstance(name, str):
        return dict(values)
    port = input_port(file, name, names.of(name, name))
    found = dict(values)
    if "dtype" not in found and port.dtype in CONDITION_DTYPES:
        found["dtype"] = CONDITION_DTYPES[port.dtype]
    if "shape" not in found:
        found["shape"] = _sizes(file, port, (port.dims or ())[1 if rows else 0 :], name)
    return found


def _sizes(file: OnnxFile, port: FilePort, inner: Dims, condition: str | None = None) -> list[int]:
    """The lengths of the axes, without the rows, of the state or a condition."""
    if any(isinstance(d, str) for d in inner):
        said = "one sample's in the spec, shape = [...]"
        if condition is not None:
            said = f'its own in the spec, [[conditions]] name = "{condition}", shape = [...]'
        raise ExportError(
            f"{file.path}: the input {port} leaves axes free, and a bundle fixes them: say the "
            f"shape, {said}"
        )
    return [int(d) for d in inner]


def _with_batch(file: OnnxFile, spec: DenoiserSpec, wiring: Wiring, own: bool) -> DenoiserSpec:
    """The spec with the rows that the file takes; ``own``: it says itself which it wants."""
    if wiring.batch is None:
        return spec
    taken = (wiring.batch, wiring.batch)
    if own and spec.batch != taken and wiring.wider() is None:
        why = wiring.why_fixed
        raise ExportError(
            f"{file.path} takes {wiring.batch} rows a call ({why}), and the spec says "
            f"batch = {list(spec.batch)}: leave batch out, or write the file with a free batch"
        )
    return dataclasses.replace(spec, batch=taken)
