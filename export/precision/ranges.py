"""The largest value of every tensor in a float32 graph, over the recorded trajectory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from revstep.engine.backends.onnx_cpu import onnx_session
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.errors import BackendError
from revstep.engine.spec.denoiser import DenoiserSpec

RANGES = "revstep_ranges"


def add_ranges(graph: ir.Graph) -> list[str]:
    """Adds one output: the largest finite absolute value of each float32 tensor.

    In a session of ``ranges_session`` each is taken right after its tensor is made, and the
    tensors are not kept: memory stays that of the network.

    Returns:
        The tensors' names, in the output's order.
    """
    flat = _constant(graph, "flat", np.array([-1], np.int64))
    zero = _constant(graph, "zero", np.array(0.0, np.float32))
    axes = _constant(graph, "axes", np.array([0], np.int64))
    names, parts = list[str](), list[ir.Value]()

    def largest(value: ir.Value) -> list[ir.Node]:
        reshaped = ir.Node("", "Reshape", [value, flat])
        size = ir.Node("", "Abs", reshaped.outputs)
        infinite = ir.Node("", "IsInf", size.outputs)
        finite = ir.Node("", "Where", [*infinite.outputs, zero, *size.outputs])
        found = ir.Node("", "ReduceMax", [*finite.outputs, axes])
        found.outputs[0].name = f"{RANGES}_{len(parts)}"
        names.append(str(value.name))
        parts.append(found.outputs[0])
        return [reshaped, size, infinite, finite, found]

    nodes = list(graph)
    for value in graph.inputs:
        if value.dtype == ir.DataType.FLOAT:
            graph.extend(largest(value))
    for node in nodes:
        made = [v for v in node.outputs if v.dtype == ir.DataType.FLOAT and v.name]
        graph.insert_after(node, [added for value in made for added in largest(value)])
    node = ir.Node("", "Concat", parts, [ir.AttrInt64("axis", 0)])
    out = node.outputs[0]
    out.name, out.dtype, out.shape = RANGES, ir.DataType.FLOAT, ir.Shape([len(parts)])
    graph.append(node)
    graph.outputs.append(out)
    return names


def ranges_session(path: Path, threads: int) -> Any:
    """An ONNX Runtime session of a graph of ``add_ranges``; raises as ``onnx_session``."""
    return onnx_session(path, threads=threads, in_order=True)


def _constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    tensor = ir.Tensor(array, name=f"{RANGES}_{name}")
    value = ir.Value(
        name=tensor.name,
        shape=ir.Shape(array.shape),
        type=ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


class RangeDenoiser:
    """Runs a graph of ``add_ranges``, which gave ``names``, and keeps the largest values.

    Raises:
        BackendError: ONNX Runtime is missing or refuses the graph.
    """

    def __init__(self, path: Path, names: list[str], spec: DenoiserSpec, threads: int) -> None:
        self.spec = spec
        self._names = names
        self._session = ranges_session(path, threads)
        self._largest = np.zeros(len(names), np.float32)

    @property
    def ranges(self) -> Mapping[str, float]:
        """The largest finite absolute value of each tensor so far."""
        return dict(zip(self._names, map(float, self._largest), strict=True))

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that runs the graph on the buffers; a ``BackendError`` where it can't."""
        feeds = buffers.inputs(self.spec)

        def call() -> None:
            try:
                out, ranges = self._session.run(None, feeds)
            except Exception as error:  # ONNX Runtime's own classes share no base of their own
                raise BackendError(f"ONNX Runtime can't run the fp32 graph: {error}") from error
            buffers.out[:] = out
            np.fmax(self._largest, ranges, out=self._largest)

        return call

    def describe(self) -> dict[str, Any]:
        """The backend."""
        return {"backend": "onnxruntime", "device": "cpu"}
