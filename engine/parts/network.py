"""A network beside the denoiser: a graph in ONNX Runtime, a few rows a call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.onnx_cpu import TYPES, CpuSession, onnx_session
from revstep.engine.backends.signature import check_dims
from revstep.engine.bundle.layout import LATENT, PICTURE
from revstep.engine.errors import BackendError
from revstep.engine.parts.pictures import LatentEncoder
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.spec.encoder import Encoder

ROWS_A_CALL = 8  # such networks are large; a few rows at once bound the memory

WHO = "whatever runs its denoiser,"

Values = Sequence[tuple[str, str, tuple[int, ...]]]
"""Name, dtype and shape without the rows."""


def shared_session(
    graph: Path, who: str, *, threads: int | None = None, gpu: int | None = None
) -> contextlib.AbstractContextManager[Any]:
    """What lends an ONNX Runtime session to one call at a time; raises as ``onnx_session``."""
    if gpu is None:
        return CpuSession(graph, threads=threads, who=who)
    return contextlib.nullcontext(onnx_session(graph, gpu=gpu, who=who))


class PartNetwork:
    """A graph with named inputs and outputs, of any number of rows. Thread-safe.

    Args:
        graph: The .onnx file of a bundle.
        who: What it is, for errors.
        inputs: Its inputs.
        outputs: Its outputs; each in the graph's order, whatever their names there.
        threads: On a CPU: threads inside an operator; None: as many as the process may use.
        gpu: Number of the GPU; None: the CPU.
        rows_a_call: Rows of a call, at most.

    Raises:
        BackendError: ONNX Runtime is missing or refuses the graph, or it has other inputs or
            outputs.
    """

    def __init__(
        self,
        graph: Path,
        who: str,
        inputs: Values,
        outputs: Values,
        *,
        threads: int | None = None,
        gpu: int | None = None,
        rows_a_call: int = ROWS_A_CALL,
    ) -> None:
        self._graph, self._who, self._outputs = graph, who, outputs
        self._rows_a_call = rows_a_call
        self._shared = shared_session(graph, who, threads=threads, gpu=gpu)
        with self._shared as session:
            self._check("input", session.get_inputs(), inputs)
            self._names = [port.name for port in session.get_inputs()]
            renamed = [
                (port.name, *value[1:])
                for port, value in zip(session.get_outputs(), outputs, strict=False)
            ]
            self._check("output", session.get_outputs(), renamed)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs, (rows, *shape) each, of inputs (rows, *shape) each.

        Raises:
            BackendError: ONNX Runtime failed.
        """
        rows = len(next(iter(inputs.values())))
        found = [np.empty((rows, *shape), dtype) for _, dtype, shape in self._outputs]
        for cut in self._cuts(rows):
            feeds = {name: inputs[name][cut] for name in self._names}
            with self._shared as session:
                try:
                    results = session.run(None, feeds)
                except BackendError:
                    raise
                except Exception as error:  # ONNX Runtime's own error classes share no base
                    raise BackendError(f"{self._who} failed: {error}") from error
            for whole, result in zip(found, results, strict=True):
                whole[cut] = result
        return found

    def _cuts(self, rows: int) -> Iterator[slice]:
        for first in range(0, rows, self._rows_a_call):
            yield slice(first, min(first + self._rows_a_call, rows))

    def _check(self, kind: str, ports: Sequence[Any], wanted: Values) -> None:
        names = [port.name for port in ports]
        if sorted(names) != sorted(name for name, _, _ in wanted) or len(ports) != len(wanted):
            raise BackendError(
                f"{self._graph.name} has the {kind}s {', '.join(names)}; its spec names "
                f"{', '.join(name for name, _, _ in wanted)}: export the bundle again"
            )
        found = {port.name: port for port in ports}
        for name, dtype, shape in wanted:
            port, what = found[name], f"{kind} {name!r}"
            if TYPES.get(port.type) != np.dtype(dtype):
                raise BackendError(
                    f"{self._graph.name}: {what} is {port.type}; the spec says {dtype}: export "
                    "the bundle again"
                )
            check_dims(self._graph, what, port.shape, (1, *shape))


def encoder_network(
    graph: Path,
    spec: DenoiserSpec,
    encoder: Encoder,
    *,
    threads: int | None = None,
    gpu: int | None = None,
) -> PartNetwork:
    """An encoder's graph, held against the spec; raises as ``PartNetwork``."""
    conditions = {c.name: c for c in spec.conditions}
    inputs = [(c.name, c.interface, c.shape) for c in encoder.inputs]
    outputs = [(n, conditions[n].interface, conditions[n].shape) for n in encoder.conditions]
    who = f"the bundle's encoder {encoder.name!r}, {WHO}"
    return PartNetwork(graph, who, inputs, outputs, threads=threads, gpu=gpu)


def picture_network(
    graph: Path, spec: DenoiserSpec, *, threads: int | None = None, gpu: int | None = None
) -> LatentEncoder:
    """The picture encoder's graph, held against the spec; raises as ``PartNetwork``."""
    assert spec.picture_encoder is not None
    inputs = [(PICTURE, "float32", spec.picture_encoder.shape)]
    outputs = [(LATENT, "float32", spec.shape)]
    who = f"the bundle's picture encoder, {WHO}"
    network = PartNetwork(graph, who, inputs, outputs, threads=threads, gpu=gpu)
    return LatentEncoder(spec, lambda pictures: network({PICTURE: pictures})[0])
