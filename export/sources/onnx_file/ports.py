"""What an ONNX file takes and gives, read without its weights."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx

from revstep.engine.errors import ExportError

DTYPES = {
    "FLOAT": "float32", "DOUBLE": "float64", "FLOAT16": "float16", "BFLOAT16": "bfloat16",
    "INT64": "int64", "INT32": "int32", "INT16": "int16", "INT8": "int8", "UINT8": "uint8",
    "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "BOOL": "bool", "STRING": "string",
}  # fmt: skip
FLOATS = ("float32", "float16", "bfloat16", "float64")
NARROW = ("float16", "bfloat16")

Dims = tuple[int | str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class FilePort:
    """An input or output of a file.

    Attributes:
        name: Its name.
        dtype: ``float32``, ``int64``, ...; in ONNX's words where numpy has none.
        dims: Its axes: a number, or the name of one that is free; None: the file doesn't say.
    """

    name: str
    dtype: str
    dims: Dims | None

    def __str__(self) -> str:
        return f"{self.name!r}, {self.dtype} {self.shape}"

    @property
    def shape(self) -> str:
        """The axes, as ``(batch, 3, 64, 64)``."""
        if self.dims is None:
            return "of any shape"
        inner = ", ".join(map(str, self.dims))
        return f"({inner},)" if len(self.dims) == 1 else f"({inner})"

    @property
    def is_float(self) -> bool:
        """Whether it holds real numbers."""
        return self.dtype in FLOATS


@dataclasses.dataclass(frozen=True, slots=True)
class OnnxFile:
    """An ONNX file, without its weights.

    Attributes:
        path: The file.
        inputs: What it takes, without weights that are listed as inputs.
        outputs: What it gives.
        opset: Of ONNX's own operators.
        ir_version: Of the format.
        producer: What wrote it, with its version.
        weights: Numbers in its weights, by dtype.
        operators: How many nodes it has of each operator; of other domains as ``domain::name``.
        dtypes: All dtypes of its weights, inputs and outputs, and those that it casts to.
        bytes: Size of the file and of those that its weights are in.
    """

    path: Path
    inputs: tuple[FilePort, ...]
    outputs: tuple[FilePort, ...]
    opset: int
    ir_version: int
    producer: str
    weights: Mapping[str, int]
    operators: Mapping[str, int]
    dtypes: frozenset[str]
    bytes: int

    @property
    def parameters(self) -> int:
        """Numbers in its floating-point weights."""
        return sum(count for dtype, count in self.weights.items() if dtype in FLOATS)

    @property
    def narrow(self) -> tuple[str, ...]:
        """The 16-bit floats that it computes in."""
        return tuple(d for d in NARROW if d in self.dtypes)


def read_file(path: str | Path) -> OnnxFile:
    """What an ONNX file takes and gives.

    Raises:
        ExportError: No such file, no ONNX, a model that is for training, or weights that are
            missing beside it.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist"
        raise ExportError(f"{path} {found}; give an ONNX file, model.onnx")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own classes
        raise ExportError(f"{path} is no ONNX file that can be read: {error}") from error
    opsets = {o.domain: o.version for o in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx"))
    if opset is None or not model.graph.node:
        raise ExportError(f"{path} is no ONNX model: it has no operators of ONNX's own")
    weights = {i.name for i in model.graph.initializer}
    weights |= {i.values.name for i in model.graph.sparse_initializer}
    counts: collections.Counter[str] = collections.Counter()
    for tensor in _weights(model):
        counts[_dtype(tensor.data_type)] += math.prod(tensor.dims)
    inputs = tuple(_port(v) for v in model.graph.input if v.name not in weights)
    outputs = tuple(_port(v) for v in model.graph.output)
    beside = _beside(path, model)
    return OnnxFile(
        path=path,
        inputs=inputs,
        outputs=outputs,
        opset=opset,
        ir_version=model.ir_version,
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        weights=counts,
        operators=collections.Counter(map(_operator, _nodes(model))),
        dtypes=frozenset({*counts, *(p.dtype for p in (*inputs, *outputs)), *_casts(model)}),
        bytes=path.stat().st_size + sum(file.stat().st_size for file in beside),
    )


def _port(value: onnx.ValueInfoProto) -> FilePort:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return FilePort(value.name, str(kind or "unknown").removesuffix("_type"), None)
    tensor = value.type.tensor_type
    dims: Dims | None = None
    if tensor.HasField("shape"):
        # some writers say 0 or -1 of an axis that is free
        dims = tuple(
            d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in tensor.shape.dim
        )
    return FilePort(value.name, _dtype(tensor.elem_type), dims)


def _dtype(kind: int) -> str:
    name: str = onnx.TensorProto.DataType.Name(kind)
    return DTYPES.get(name, name.lower())


def _beside(path: Path, model: onnx.ModelProto) -> list[Path]:
    """The files of external weights."""
    found: dict[Path, None] = {}
    for tensor in _weights(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = {e.key: e.value for e in tensor.external_data}.get("location", "")
        file = path.parent / location
        if not location or not file.is_file():
            raise ExportError(
                f"{path} keeps the weight {tensor.name!r} in {location or 'no file'}, which is not "
                f"beside it: copy it to {path.parent}"
            )
        found[file] = None
    return list(found)


def _weights(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    for body in _bodies(model):
        yield from getattr(body, "initializer", ())
    for node in _nodes(model):
        if node.op_type == "Constant":
            yield from (a.t for a in node.attribute if a.type == onnx.AttributeProto.TENSOR)


def _casts(model: onnx.ModelProto) -> Iterator[str]:
    for node in _nodes(model):
        if node.op_type == "Cast":
            yield from (_dtype(a.i) for a in node.attribute if a.name == "to")


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for body in _bodies(model):
        yield from body.node


def _bodies(model: onnx.ModelProto) -> list[Any]:
    """The graph, its functions, and the bodies of control flow."""
    found: list[Any] = [model.graph, *model.functions]
    for body in found:  # which grows
        for node in body.node:
            for a in node.attribute:
                found += [*a.graphs, *([a.g] if a.HasField("g") else [])]
    return found


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"
