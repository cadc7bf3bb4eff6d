"""``export_onnx``: any denoiser in an ONNX file, as a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.bundle.layout import file_digest
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.writer import seal, writing_bundle
from revstep.engine.checks import check_mapping
from revstep.engine.errors import ArgumentError, ExportError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.progress import Progress, Stages
from revstep.export.sources.module import MISSING, check_arguments, few_threads
from revstep.export.turns import TURNS

if TYPE_CHECKING:
    from revstep.export.sources.onnx_file.names import Names
    from revstep.export.sources.onnx_file.ports import OnnxFile
    from revstep.export.sources.onnx_file.wiring import Wiring

NO_RUNTIME = (
    "an ONNX file's own output is what its bundle is held to, and ONNX Runtime, which gives it, is "
    "not installed; pip install 'revstep[cpu]'"
)


def export_onnx(
    file: str | Path,
    spec: DenoiserSpec | Mapping[str, Any] | str | Path,
    path: str | Path,
    *,
    inputs: Mapping[str, Any] | None = None,
    constants: Mapping[str, Any] | None = None,
    output: str | Mapping[str, Any] | None = None,
    precisions: Sequence[str] = ("fp32",),
    opset: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Exports a denoiser in an ONNX file, and its own outputs as the reference, as a bundle.

    The file's graph is adapted by renames, casts and reshapes at its inputs and its output; floats
    of 16 bits become float32, which the precisions reduce again, and the parity bounds are then
    those of 16 bits. Opsets below 18 are raised.

    Where a file fixes its batch, or its time is one number for all rows, which may be at different
    times, the graph is changed to take any number of rows, and a time of each. Where that doesn't
    give every row what the file gives it, the bundle's calls have the file's rows.

    Args:
        file: The ONNX file, with its external data beside it.
        spec: A TOML file of the spec's fields and the names below (``revstep inspect --write``
            makes one); the same as a mapping; or a spec, whose names are then the file's, or the
            keys of ``inputs``.
        path: The bundle's directory; it appears when all is done, or not at all.
        inputs: With a ``DenoiserSpec``: ``state``, ``time`` or a condition's name -> the file's
            name of it, or a mapping: ``{"name": "t", "scale": -1.0, "shift": 1.0}`` feeds a time
            that is 1 at the data, ``{"name": "x", "channels_last": True}`` is a state (B, H, W, C)
            for the spec's (C, H, W).
        constants: With a ``DenoiserSpec``: the file's inputs that always have one value.
        output: The file's output that is the prediction, where there are several, or a mapping:
            ``{"name": "v", "scale": -1.0}``.
        precisions: Of ``fp32``, ``fp16``, ``bf16``; one graph each.
        opset: The least ONNX opset of the graph, 18 to 22; None: the file's own, or 18.
        overwrite: Replace an existing bundle.
        progress: Called with (description, done, total).

    Raises:
        ValueError: An unknown precision, opset or field, or a value that is not allowed.
        TypeError: A value of another type.
        ExportError: The file can't be read or run, the spec contradicts it, or writing failed; the
            target is as it was.
    """
    for name in ("torch", "onnx", "onnxscript"):
        if find_spec(name) is None:
            raise ExportError(MISSING.format(name=name))
    if find_spec("onnxruntime") is None:
        raise ExportError(NO_RUNTIME)
    from revstep.export.sources.onnx_file.job import Job, count_units
    from revstep.export.sources.onnx_file.ports import read_file

    precisions = check_arguments(path, precisions, opset or 18, overwrite)
    found = read_file(file)
    whole, names, wiring = _fitted(found, spec, inputs, constants, output)
    stages = Stages(progress, count_units(precisions))
    with TURNS, few_threads(found.parameters), writing_bundle(path, overwrite=overwrite) as work:
        made = Job(found, whole, wiring, precisions, opset, work, stages).make()
        stages.start("writing the bundle")
        seal(work, _body(found, names, made))
    bundle = Bundle.open(path)
    stages.advance("writing the bundle")
    return bundle


def _fitted(
    file: OnnxFile,
    spec: DenoiserSpec | Mapping[str, Any] | str | Path,
    inputs: object,
    constants: object,
    output: object,
) -> tuple[DenoiserSpec, Names, Wiring]:
    """The whole spec, the names, and the wiring."""
    from revstep.export.sources.onnx_file.fit import fit
    from revstep.export.sources.onnx_file.names import Names
    from revstep.export.sources.onnx_file.spec_file import read_toml

    if isinstance(spec, DenoiserSpec):
        return fit(file, spec, Names.read(inputs, constants, output))
    if not isinstance(spec, str | Path):
        check_mapping(spec, "spec", "{'prediction': 'epsilon', ...}, a TOML file or a DenoiserSpec")
    if inputs or constants:
        raise ArgumentError("inputs and constants go with a DenoiserSpec; TOML has its own tables")
    where = f"{spec}: " if isinstance(spec, str | Path) else ""
    values = read_toml(spec) if isinstance(spec, str | Path) else dict(spec)
    if output is not None:
        own = values.get("output")
        values["output"] = {**(own if isinstance(own, dict) else {}), **_table(output)}
    try:
        return fit(file, values)
    except ExportError:
        raise
    except (ValueError, TypeError) as error:
        raise ExportError(where, *error.args) from error


def _table(output: object) -> dict[str, Any]:
    return dict(output) if isinstance(output, Mapping) else {"name": output}


def _body(file: OnnxFile, names: Names, made: dict[str, Any]) -> dict[str, Any]:
    """The manifest's own fields."""
    from revstep.export.provenance import provenance, revstep_version

    source = {"kind": "onnx", "name": file.path.name, "sha256": file_digest(file.path)}
    if file.producer:
        source["producer"] = file.producer
    origin = provenance(file.parameters, opset=made.pop("opset"), source=source)
    origin["names"] = names.to_dict()
    if nodes := made.pop("precision"):
        origin["precision"] = nodes
    return {"revstep": revstep_version(), "provenance": origin, **made, "engines": []}
