"""What a graph takes and gives, held against the spec; of every runtime that says it by names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.errors import BackendError
from revstep.engine.spec.denoiser import DenoiserSpec


class Port(NamedTuple):
    """An input or output of a graph.

    Attributes:
        name: Its name.
        kind: Its type, as the runtime writes it.
        dtype: The numpy dtype of that type; None: no interface of revstep's has it.
        dims: Its lengths; what is no int is any.
    """

    name: str
    kind: str
    dtype: np.dtype[Any] | None
    dims: Sequence[Any]


def check_signature(
    graph: Path, inputs: Sequence[Port], outputs: Sequence[Port], spec: DenoiserSpec
) -> str:
    """The name of the graph's one output; its inputs must be the spec's.

    Raises:
        BackendError: They are not, or an axis has another length than the spec says.
    """
    ports = {port.name: port for port in inputs}
    wanted = NetworkBuffers.allocate(spec, 0).inputs(spec)
    if set(ports) != set(wanted):
        raise BackendError(
            f"{graph.name} has the inputs {', '.join(ports)}; its spec names "
            f"{', '.join(wanted)}: export the bundle again"
        )
    for name, array in wanted.items():
        if ports[name].dtype != array.dtype:
            raise BackendError(
                f"{graph.name}: input {name!r} is {ports[name].kind}; the spec says "
                f"{array.dtype}: export the bundle again"
            )
        check_dims(graph, f"input {name!r}", ports[name].dims, array.shape)
    if len(outputs) != 1:
        raise BackendError(f"{graph.name} has {len(outputs)} outputs; a denoiser has one")
    check_dims(graph, "the output", outputs[0].dims, (1, *spec.output_shape))
    return outputs[0].name


def check_dims(graph: Path, what: str, found: Sequence[Any], wanted: tuple[int, ...]) -> None:
    """Refuses axes of other lengths than the spec's; the rows and a graph's free axes are any.

    Raises:
        BackendError: Another number of axes, or another length.
    """
    if len(found) != len(wanted):
        raise BackendError(
            f"{graph.name}: {what} has {len(found)} axes; the spec says {len(wanted)}: export the "
            "bundle again"
        )
    if any(isinstance(n, int) and n != m for n, m in zip(found[1:], wanted[1:], strict=True)):
        raise BackendError(
            f"{graph.name}: {what} is {tuple(found[1:])} per row; the spec says {wanted[1:]}: "
            "export the bundle again"
        )
