"""``revstep inspect``: what an ONNX file takes and gives, and a spec of it to start from."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from revstep.commands.errors import report_errors
from revstep.commands.extras import need
from revstep.commands.output import out, print_json, size
from revstep.commands.shared_options import AsJson
from revstep.engine.bundle.layout import MANIFEST

if TYPE_CHECKING:
    from revstep.export.sources.onnx_file.guess import Guesses
    from revstep.export.sources.onnx_file.ports import FilePort, OnnxFile


@report_errors
def inspect(
    model: Annotated[Path, typer.Argument(help="The ONNX file.", metavar="MODEL")],
    write: Annotated[
        Path | None,
        typer.Option(help="Write a spec to start from: spec.toml, for export --onnx --spec."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing spec.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what an ONNX file takes and gives, guess what each input is, and write a spec."""
    if (model / MANIFEST).is_file():
        raise ValueError(f"{model} is a bundle; what is inside: revstep info {model}")
    need("onnx", purpose="inspect")
    if write is not None and write.exists() and not overwrite:
        raise ValueError(f"{write} exists; pass --overwrite to replace it, or name another")
    if write is not None and not write.parent.is_dir():
        raise ValueError(f"{write.parent} is no folder; make it, or name a file in another")
    from revstep.export.sources.onnx_file.guess import guess
    from revstep.export.sources.onnx_file.ports import read_file
    from revstep.export.sources.onnx_file.runtimes import foreign, runtimes
    from revstep.export.sources.onnx_file.template import template

    file = read_file(model)
    found = guess(file)
    readers = runtimes(file)
    if write is not None:
        _write(write, template(file, found))
    if as_json:
        print_json(_plain(file, found, readers))
        return
    typer.echo(
        f"{file.path}: opset {file.opset}, {_parameters(file)}, {size(file.bytes)}"
        f"{f', written by {file.producer}' if file.producer else ''}"
    )
    table = Table(box=None, pad_edge=False)
    for title in ("", "name", "dtype", "shape", "what it may be"):
        table.add_column(title, style="bold" if not title else "", overflow="fold")
    for port in file.inputs:
        one = found.inputs[port.name]
        table.add_row("input", *_described(port), f"{one.what}: {one.reason}")
    for port in file.outputs:
        table.add_row("output", *_described(port), _output(port, found))
    out().print(table)
    if others := foreign(file):
        typer.echo(f"operators that are not ONNX's own: {', '.join(others)}")
    for name, said in readers.items():
        typer.echo(f"{name}: {said}")
    if write is not None:
        typer.echo(f"Next: fill in {write} where it asks, then")
        words = ("--onnx", str(model), "--spec", str(write), "-o", f"{model.stem}.revstep")
        typer.echo(f"  revstep export {shlex.join(words)}")
    else:
        typer.echo(f"Next: revstep inspect {shlex.quote(str(model))} --write spec.toml")


def _described(port: FilePort) -> tuple[str, str, str]:
    return port.name, port.dtype, port.shape


def _output(port: FilePort, found: Guesses) -> str:
    if found.output is None or port.name != found.output.name:
        return ""
    if found.prediction is None:
        return "the prediction: it has the state's shape; of what, the file doesn't say"
    prediction, why = found.prediction
    return f"the prediction, of {prediction!r}: {why}"


def _parameters(file: OnnxFile) -> str:
    dtypes = [d for d, n in file.weights.items() if "float" in d and n]
    return f"{file.parameters:,} parameters ({' and '.join(dtypes) or 'none'})"


def _write(path: Path, text: str) -> None:
    """Beside its place, then renamed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _plain(file: OnnxFile, found: Guesses, readers: dict[str, str]) -> dict[str, Any]:
    def described(port: FilePort) -> dict[str, Any]:
        dims = None if port.dims is None else list(port.dims)
        return {"name": port.name, "dtype": port.dtype, "shape": dims}

    guessed = {
        name: {"role": one.role, "what": one.what, "reason": one.reason}
        for name, one in found.inputs.items()
    }
    prediction = None if found.prediction is None else found.prediction[0]
    return {
        "path": file.path,
        "opset": file.opset,
        "ir_version": file.ir_version,
        "producer": file.producer,
        "parameters": file.parameters,
        "bytes": file.bytes,
        "inputs": [{**described(p), **guessed[p.name]} for p in file.inputs],
        "outputs": [described(p) for p in file.outputs],
        "output": None if found.output is None else found.output.name,
        "prediction": prediction,
        "operators": dict(sorted(file.operators.items())),
        "runtimes": readers,
    }
