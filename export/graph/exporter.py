"""One module as one ONNX graph: dynamic batch, float32."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import onnx
import torch

from revstep.engine.backends.part import ROWS_A_CALL
from revstep.engine.bundle.layout import IMAGE, LATENT, OUTPUT
from revstep.engine.errors import ExportError
from revstep.engine.parts.tiles import call_shapes
from revstep.engine.spec.denoiser import MAX_BATCH, DenoiserSpec
from revstep.export.graph.attention import masks_as_given, translations
from revstep.export.graph.batch_range import FREE_BATCH
from revstep.export.graph.check import check_loads
from revstep.export.graph.exact_constants import exact_constants
from revstep.export.graph.failure import failure
from revstep.export.graph.metadata import forget_exporter
from revstep.export.graph.passes import fix
from revstep.export.module.examples import example_inputs
from revstep.export.module.part import Part, Value

ONNX_TYPES = {
    "float32": onnx.TensorProto.FLOAT,
    "int64": onnx.TensorProto.INT64,
    "int32": onnx.TensorProto.INT32,
    "bool": onnx.TensorProto.BOOL,
}
LOGGERS = ("torch", "onnxscript", "onnx_ir")

logger = logging.getLogger(__name__)


class _Float32Output(torch.nn.Module):
    """A float32 module of (x, t, *rest) whose output is float32 too, whatever it returns."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor, t: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.module(x, t, *rest)
        return out.to(torch.float32)


def export_graph(
    module: torch.nn.Module, spec: DenoiserSpec, path: Path, *, opset: int
) -> set[int]:
    """Writes the graph of a float32 module and checks its inputs and output.

    Returns:
        Batches of the spec's range for which the module branches; whether they give the same rows
        is the caller's to check.

    Raises:
        ExportError: The module can't be exported with a dynamic batch; the message says why.
    """
    example = tuple(torch.from_numpy(i) for i in example_inputs(spec, 2))
    inputs: list[Value] = [(spec.name, "float32", spec.shape)]
    inputs += [(time.name, "float32", ()) for time in spec.times]
    inputs += [(c.name, c.interface, c.shape) for c in spec.conditions]
    names = [name for name, _, _ in inputs]
    batch = {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}
    shapes: tuple[object, ...] = (batch, batch)
    if rest := len(inputs) - 2:  # *rest is one nested entry, and none at all when it is empty
        shapes = (*shapes, (batch,) * rest)
    others = _export(
        _Float32Output(module).eval(), example, path, opset, names, [OUTPUT], shapes, spec.batch
    )
    _check_graph(path, inputs, [(OUTPUT, "float32", spec.output_shape)])
    return set(others)


class _TypedOutputs(torch.nn.Module):
    """A module whose outputs have the dtypes of a part's, whatever it returns."""

    def __init__(self, module: torch.nn.Module, part: Part) -> None:
        super().__init__()
        self.module = module
        self.dtypes = [getattr(torch, dtype) for _, dtype, _ in part.outputs]

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.module(*inputs)
        outputs = (found,) if isinstance(found, torch.Tensor) else found
        return tuple(o.to(dtype) for o, dtype in zip(outputs, self.dtypes, strict=True))


def export_part(module: torch.nn.Module, part: Part, path: Path, *, opset: int) -> None:
    """Writes the graph of a float32 module beside the denoiser: the part's inputs and outputs.

    Raises:
        ExportError: As ``export_graph``.
    """
    example = tuple(torch.from_numpy(i) for i in part.examples(2))
    batch = {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}
    names, outputs = part.names, [name for name, _, _ in part.outputs]
    shapes = (tuple(batch for _ in names),)  # *inputs is one nested entry
    typed = _TypedOutputs(module, part).eval()
    if _export(typed, example, path, opset, names, outputs, shapes, (1, ROWS_A_CALL)):
        raise ExportError(f"{part.what} takes another way in batches up to 8; {FREE_BATCH}")
    inputs = [(c.name, c.interface, c.shape) for c in part.inputs]
    _check_graph(path, inputs, list(part.outputs))


def export_decoder(decoder: torch.nn.Module, spec: DenoiserSpec, path: Path, *, opset: int) -> None:
    """Writes the decoder: ``latent`` to ``image``, of all or of a tile, float32 (B, ...).

    Raises:
        ExportError: As ``export_graph``.
    """
    latents, pictures = call_shapes(spec)
    whole = example_inputs(spec, 2)[0]
    example = (torch.from_numpy(whole[tuple(slice(n) for n in (2, *latents))].copy()),)
    batch = {0: torch.export.Dim("batch", min=1, max=MAX_BATCH)}
    wanted = (1, ROWS_A_CALL)
    if _export(decoder, example, path, opset, [LATENT], [IMAGE], (batch,), wanted):
        raise ExportError(f"the decoder takes another way in batches up to 8; {FREE_BATCH}")
    _check_graph(path, [(LATENT, "float32", latents)], [(IMAGE, "float32", pictures)])


def _export(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    path: Path,
    opset: int,
    names: list[str],
    outputs: list[str],
    shapes: tuple[object, ...],
    rows: tuple[int, int],
) -> list[int]:
    """Writes the graph; returns batches of ``rows`` for which it was not traced."""
    options: dict[str, Any] = {
        "dynamo": True,
        "opset_version": opset,
        "input_names": names,
        "output_names": outputs,
        "custom_translation_table": translations(),
        "verbose": False,
    }
    try:
        with _quiet(), torch.no_grad(), masks_as_given(), exact_constants() as exact:
            program = _captured(module, example, shapes, {**options, "optimize": exact})
            outside = _outside_range(program.exported_program, rows)
            fix(program.model)
            forget_exporter(program.model, here=True)
            program.save(path)
            return outside
    except (OSError, ExportError):
        raise  # a full disk is the writer's to report
    except Exception as error:  # torch.export passes on whatever the user's module raises
        raise failure(error) from error


def _captured(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    shapes: tuple[object, ...],
    options: dict[str, Any],
) -> torch.onnx.ONNXProgram:
    """The graph; through a plain ``torch.export`` where the ONNX exporter's own way fails.

    That one takes the inputs' batches for different ones, and so fails where a view of an
    attention mask takes its batch from another input.
    """
    try:
        program = torch.onnx.export(module, example, dynamic_shapes=shapes, **options)
    except Exception as error:  # whatever the module raises
        if type(error).__name__ != "TorchExportError":
            raise
        try:
            program = torch.onnx.export(_plain(module, example, shapes), (), **options)
        except Exception:
            raise error from error.__cause__
    assert program is not None
    return program


def _plain(
    module: torch.nn.Module, example: tuple[torch.Tensor, ...], shapes: tuple[object, ...]
) -> torch.export.ExportedProgram:
    """``torch.export``'s program, again with the batches that it found to work where it says so."""
    from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes as refined

    try:
        return torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
    except torch._dynamo.exc.UserError as error:
        before, mark, fixes = str(error).partition("Suggested fixes:")
        advice = before + mark + fixes.partition("\n\n")[0]  # what follows is for people
        fits: Any = refined(advice, shapes)  # type: ignore[arg-type]
        return torch.export.export(module, example, dynamic_shapes=fits, strict=False)


def _outside_range(
    program: torch.export.ExportedProgram | None, rows: tuple[int, int]
) -> list[int]:
    """The batches of ``rows`` just outside those that the graph was traced for.

    A branch on the batch narrows them silently. It may change nothing (diffusers' upsampling makes
    64 rows contiguous), so the module itself is run there.
    """
    if program is None:
        return []
    taken = set(program.graph_signature.user_inputs)
    values = [n.meta.get("val") for n in program.graph.nodes if n.name in taken]
    symbols = {str(v.shape[0]) for v in values if isinstance(v, torch.Tensor) and v.ndim}
    outside = []
    for symbol, found in program.range_constraints.items():
        if str(symbol) in symbols:
            outside += [int(found.upper) + 1] if found.upper < rows[1] else []
            outside += [int(found.lower) - 1] if found.lower > max(rows[0], 2) else []
    return outside


class _Muted:
    """A stream that keeps what this thread writes; others (a progress bar's) write through."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._thread = threading.get_ident()
        self.lines: list[str] = []

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._stream.write(text)
        self.lines.append(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Sends the exporter's prints and warnings to our logger, at debug level; silences its log."""
    out, err = _Muted(sys.stdout), _Muted(sys.stderr)
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(record=True) as caught,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            warnings.simplefilter("always")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for line in "".join(out.lines + err.lines).splitlines():
            logger.debug("exporter: %s", line)
        for warning in caught:
            logger.debug("exporter: %s", warning.message)


def _check_graph(path: Path, inputs: list[Value], wanted_outputs: list[Value]) -> None:
    """Compares the written graph's inputs and outputs with the spec, and runs onnx's checker."""
    check_loads(path)
    graph = onnx.load(str(path), load_external_data=False).graph
    found = [_value(v) for v in graph.input]
    if [name for name, _, _ in found] != [name for name, _, _ in inputs]:
        raise ExportError(
            f"the graph's inputs are {', '.join(n for n, _, _ in found)}, expected "
            f"{', '.join(n for n, _, _ in inputs)}: the module must take every input as a tensor"
        )
    outputs = [_value(v) for v in graph.output]
    if len(outputs) != len(wanted_outputs):
        raise ExportError(f"the graph has {len(outputs)} outputs, expected {len(wanted_outputs)}")
    wanted = [*inputs, *wanted_outputs]
    symbols = set()
    for (name, kind, dims), (_, dtype, shape) in zip([*found, *outputs], wanted, strict=True):
        if kind != ONNX_TYPES[dtype]:
            raise ExportError(f"the graph's {name!r} is of ONNX type {kind}, expected {dtype}")
        if not dims or not isinstance(dims[0], str):
            raise ExportError(
                f"the graph's {name!r} has the fixed batch {dims[:1]}: the module fixes its batch; "
                f"{FREE_BATCH}"
            )
        symbols.add(dims[0])
        if tuple(dims[1:]) != shape:
            raise ExportError(f"the graph's {name!r} is {dims}, expected (batch, *{shape})")
    if len(symbols) != 1:
        raise ExportError(f"the graph's batches differ: {', '.join(sorted(symbols))}")


def _value(value: onnx.ValueInfoProto) -> tuple[str, int, list[int | str]]:
    tensor = value.type.tensor_type
    dims: list[int | str] = [
        d.dim_param if d.HasField("dim_param") else d.dim_value for d in tensor.shape.dim
    ]
    return value.name, tensor.elem_type, dims
