"""A network beside the denoiser, held against the spec: a few rows a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.part import PartGraph, check_given
from revstep.engine.backends.signature import Port, check_dims
from revstep.engine.bundle.layout import LATENT, PICTURE
from revstep.engine.errors import BackendError
from revstep.engine.parts.pictures import LatentEncoder
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.encoder import Encoder

Values = Sequence[tuple[str, str, tuple[int, ...]]]
"""Name, dtype and shape without the rows."""


class PartNetwork:
    """A graph with named inputs and outputs, of any number of rows. Thread-safe.

    Args:
        opened: The graph in its runtime.
        graph: Its .onnx file, for errors.
        inputs: Its inputs.
        outputs: Its outputs; each in the graph's order, whatever their names there.

    Raises:
        BackendError: It has other inputs or outputs.
    """

    def __init__(self, opened: PartGraph, graph: Path, inputs: Values, outputs: Values) -> None:
        self._opened, self._graph, self._outputs = opened, graph, outputs
        self._check("input", opened.inputs, inputs)
        self._names = [port.name for port in opened.inputs]
        renamed = [
            (port.name, *value[1:]) for port, value in zip(opened.outputs, outputs, strict=False)
        ]
        self._check("output", opened.outputs, renamed)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, (rows, *shape) each, of inputs (rows, *shape) each.

        Raises:
            BackendError: The runtime failed, or an output is not of its shape.
        """
        rows = len(next(iter(inputs.values())))
        found = [np.empty((rows, *shape), dtype) for _, dtype, shape in self._outputs]
        for cut in self._cuts(rows):
            results = self._opened.run({name: inputs[name][cut] for name in self._names})
            for whole, result, (name, *_) in zip(found, results, self._outputs, strict=True):
                check_given(result, whole[cut].shape, f"{self._graph.name}: output {name!r}")
                whole[cut] = result
        return found

    def describe(self) -> dict[str, Any]:
        """What runs it, and where."""
        return self._opened.describe()

    def _cuts(self, rows: int) -> Iterator[slice]:
        step = self._opened.rows
        for first in range(0, rows, step):
            yield slice(first, min(first + step, rows))

    def _check(self, kind: str, ports: Sequence[Port], wanted: Values) -> None:
        names = [port.name for port in ports]
        if sorted(names) != sorted(name for name, _, _ in wanted) or len(ports) != len(wanted):
            raise BackendError(
                f"{self._graph.name} has the {kind}s {', '.join(names)}; its spec names "
                f"{', '.join(name for name, _, _ in wanted)}: export the bundle again"
            )
        found = {port.name: port for port in ports}
        for name, dtype, shape in wanted:
            port, what = found[name], f"{kind} {name!r}"
            if port.dtype != np.dtype(dtype):
                raise BackendError(
                    f"{self._graph.name}: {what} is {port.kind}; the spec says {dtype}: export "
                    "the bundle again"
                )
            check_dims(self._graph, what, port.dims, (1, *shape))


def encoder_network(
    opened: PartGraph, graph: Path, spec: DenoiserSpec, encoder: Encoder
) -> PartNetwork:
    """An encoder's graph, held against the spec; raises as ``PartNetwork``."""
    conditions = {c.name: c for c in spec.conditions}
    inputs = [(c.name, c.interface, c.shape) for c in encoder.inputs]
    outputs = [(n, conditions[n].interface, conditions[n].shape) for n in encoder.conditions]
    return PartNetwork(opened, graph, inputs, outputs)


def picture_network(opened: PartGraph, graph: Path, spec: DenoiserSpec) -> LatentEncoder:
    """The picture encoder's graph, held against the spec; raises as ``PartNetwork``."""
    assert spec.picture_encoder is not None
    inputs = [(PICTURE, "float32", spec.picture_encoder.shape)]
    network = PartNetwork(opened, graph, inputs, [(LATENT, "float32", spec.shape)])
    return LatentEncoder(spec, lambda pictures: network({PICTURE: pictures})[0])
