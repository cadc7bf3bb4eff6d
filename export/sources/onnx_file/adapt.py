"""A file's graph in revstep's interface: renames, casts and reshapes around it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from revstep.engine.bundle.layout import OUTPUT
from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.graph.metadata import forget_exporter
from revstep.export.graph.passes import unique_names
from revstep.export.precision.types import INLINE, save_graph
from revstep.export.sources.onnx_file.ports import DTYPES, OnnxFile
from revstep.export.sources.onnx_file.spread import spread
from revstep.export.sources.onnx_file.widen import widen
from revstep.export.sources.onnx_file.wiring import Feed, Wiring

OLDEST = 18  # opset of the passes over graphs, and of the newest operators' forms
IR_VERSION = 8  # before 4, weights are listed as inputs
BATCH = "batch"
FLOAT = ir.DataType.FLOAT
TYPES = {
    name: ir.DataType(onnx.TensorProto.DataType.Value(key)) for key, name in DTYPES.items()
}  # fmt: skip

logger = logging.getLogger(__name__)


def adapted(
    file: OnnxFile,
    spec: DenoiserSpec,
    wiring: Wiring,
    *,
    opset: int | None,
    dtypes: tuple[str, ...],
) -> ir.Model:
    """The model with revstep's inputs, output and opset, its floats of ``dtypes`` made float32.

    Raises:
        ExportError: It can't be read.
    """
    try:
        model = ir.load(file.path)
        common.InlinePass()(model)
    except Exception as error:  # whatever onnx-ir says of a file
        raise ExportError(f"{file.path} can't be read: {error}") from error
    graph = model.graph
    if "ai.onnx" in graph.opset_imports:  # the domain's long name
        graph.opset_imports[""] = graph.opset_imports.pop("ai.onnx")
    raise_opset(model, max(opset or 0, OLDEST))
    model.ir_version = max(model.ir_version, IR_VERSION)
    graph = model.graph
    if not len(graph):
        raise ExportError(f"{file.path} computes nothing: no output of it follows from an input")
    if dtypes:
        widen(model, tuple(TYPES[d] for d in dtypes))
    ports = {value.name: value for value in graph.inputs}
    _forget_shapes(model)
    for name, array in wiring.constants.items():
        _fix(graph, ports[name], array)
    rows: int | str = BATCH if wiring.batch is None else wiring.batch
    inputs = [_feed(graph, ports[feed.name], feed, spec, rows) for feed in wiring.feeds]
    _result(graph, wiring, rows)
    del graph.inputs[:]  # constants, and weights that old files list there, are no inputs
    graph.inputs.extend(inputs)
    common.RemoveUnusedNodesPass()(model)
    unique_names(model)
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    forget_exporter(model, here=False)
    return model


def save(model: ir.Model, path: Path) -> None:
    """Writes a model, with weights from beside the file that it was read from."""
    weights = [v.const_value for v in model.graph.initializers.values() if v.const_value]
    if sum(w.nbytes for w in weights) <= INLINE:
        ir.external_data.load_to_model(model)
    save_graph(model, path)


def raise_opset(model: ir.Model, opset: int) -> None:
    """Raises a model to an opset, where ONNX's converters can; one of a later opset stays."""
    from onnxscript.version_converter import convert_version

    if model.graph.opset_imports.get("", 0) >= opset:
        return
    quiet = logging.getLogger("onnxscript.version_converter")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        convert_version(model, opset, fallback=True)
    except Exception as error:  # whatever a rule of the converter raises
        logger.debug("the model stays at its opset: %s", error)
    finally:
        quiet.setLevel(level)
    if (found := model.graph.opset_imports.get("", 0)) < opset:
        logger.warning(
            "ONNX's converter can't raise the model from opset %d to %d, so it stays there, which "
            "some runtimes don't take",
            found, opset,
        )  # fmt: skip


def _forget_shapes(model: ir.Model) -> None:
    """Drops the shapes of inner values, which hold for other inputs; dtypes stay true."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None


def _fix(graph: ir.Graph, value: ir.Value, array: NDArray[Any]) -> None:
    """Makes an input a weight."""
    dtype = value.dtype
    assert dtype is not None
    value.const_value = ir.Tensor(array.astype(dtype.numpy()), dtype=dtype, name=value.name)
    value.shape = ir.Shape(array.shape)
    graph.register_initializer(value)


def _feed(
    graph: ir.Graph, old: ir.Value, feed: Feed, spec: DenoiserSpec, rows: int | str
) -> ir.Value:
    """Revstep's input, and the nodes that make the file's of it."""
    dtypes = {c.name: c.interface for c in spec.conditions}
    new = ir.Value(
        name=feed.ours,
        shape=ir.Shape([rows, *feed.shape]),
        type=ir.TensorType(TYPES[dtypes.get(feed.ours, "float32")]),
    )
    wanted = old.dtype
    assert wanted is not None
    chain = _Chain(graph, new, feed.ours, first=True)
    if feed.order is not None:
        chain.add("Transpose", perm=list(feed.order))
    if feed.scale != 1.0:
        chain.add("Mul", np.array(feed.scale, np.float32))
    if feed.shift != 0.0:
        chain.add("Add", np.array(feed.shift, np.float32))
    if new.dtype == FLOAT and wanted.is_integer():
        chain.add("Add", np.array(0.5, np.float32))
        chain.add("Floor")
    if new.dtype != wanted:
        chain.add("Cast", to=int(wanted))
    if feed.inner != _after(feed) or not feed.rows:
        lead = [-1] if feed.rows else []
        if feed.rows or feed.inner:
            chain.add("Reshape", np.array([*lead, *feed.inner], np.int64))
        else:  # a number without axes
            if feed.shape:
                chain.add("Reshape", np.array([1], np.int64))
            chain.add("Gather", np.array(0, np.int64), axis=0)
    old.replace_all_uses_with(chain.value, replace_graph_outputs=True)
    if feed.spread is not None:
        spread(graph, chain.value, feed.spread)
    return new


def _after(feed: Feed) -> tuple[int, ...]:
    """Axes of revstep's values without rows, transposed."""
    if feed.order is None:
        return feed.shape
    whole = (0, *feed.shape)
    return tuple(whole[axis] for axis in feed.order[1:])


def _result(graph: ir.Graph, wiring: Wiring, rows: int | str) -> None:
    """Makes the prediction the one output."""
    result = wiring.result
    old = next(v for v in graph.outputs if v.name == result.name)
    chain = _Chain(graph, old, OUTPUT, first=False)
    if old.dtype != FLOAT:
        chain.add("Cast", to=int(FLOAT))
    if not result.rows:
        inner = result.shape
        if result.order is not None:  # from (rows, ..., C)
            inner = (*inner[1:], inner[0])
        chain.add("Reshape", np.array([1, *inner], np.int64))
    if result.order is not None:
        chain.add("Transpose", perm=list(result.order))
    if result.scale != 1.0:
        chain.add("Mul", np.array(result.scale, np.float32))
    if chain.value is old and old.producer() is None:  # an input, or a weight
        chain.add("Identity")
    out = chain.value
    out.name, out.dtype = OUTPUT, FLOAT
    out.shape = ir.Shape([rows, *result.shape])
    del graph.outputs[:]
    graph.outputs.append(out)


class _Chain:
    """Nodes one after another, at the beginning or the end of a graph."""

    def __init__(self, graph: ir.Graph, value: ir.Value, name: str, *, first: bool) -> None:
        self.value = value
        self._graph = graph
        self._name = name
        self._before = graph[0] if first else None
        self._count = 0

    def add(self, kind: str, constant: NDArray[Any] | None = None, **attributes: Any) -> None:
        """A node of the value so far, and perhaps a constant."""
        name = f"revstep/{self._name}/{self._count}"
        self._count += 1
        inputs = [self.value]
        if constant is not None:
            tensor = ir.Tensor(constant, name=f"{name}/constant")
            weight = ir.Value(
                name=tensor.name,
                shape=ir.Shape(constant.shape),
                type=ir.TensorType(tensor.dtype),
                const_value=tensor,
            )
            self._graph.register_initializer(weight)
            inputs.append(weight)
        node = ir.node(kind, inputs, attributes, name=name)
        self.value = node.outputs[0]
        self.value.name = name
        if self._before is None:
            self._graph.append(node)
        else:
            self._graph.insert_before(self._before, node)
