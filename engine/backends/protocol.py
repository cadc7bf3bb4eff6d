"""The one protocol of every backend: a network bound to preallocated buffers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revstep.engine.spec.denoiser import DenoiserSpec

__all__ = ["Denoiser", "NetworkBuffers"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class NetworkBuffers:
    """The arrays of one network call of N rows; a backend keeps their addresses.

    Attributes:
        x: (N, *shape) float32, the network's input.
        t: (N,) float32, the network's times.
        conditions: name -> (N, *condition shape), of the interface's dtype (``Condition``).
        out: (N, *output shape) float32.
    """

    x: NDArray[np.float32]
    t: NDArray[np.float32]
    conditions: dict[str, NDArray[Any]]
    out: NDArray[np.float32]

    @classmethod
    def allocate(cls, spec: DenoiserSpec, rows: int) -> NetworkBuffers:
        """Zeros, with every condition at its null value: what unused rows hold."""
        conditions = {
            c.name: np.array(np.broadcast_to(c.filler, (rows, *c.shape)), order="C")
            for c in spec.conditions
        }
        return cls(
            x=np.zeros((rows, *spec.shape), dtype=np.float32),
            t=np.zeros(rows, dtype=np.float32),
            conditions=conditions,
            out=np.zeros((rows, *spec.output_shape), dtype=np.float32),
        )


class Denoiser(Protocol):
    """A network that runs on bound buffers. Binding and calling must be thread-safe."""

    spec: DenoiserSpec

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that runs the network on ``buffers``, in place."""
        ...

    def describe(self) -> dict[str, Any]:
        """What runs: backend, version, device, precision, threads."""
        ...
