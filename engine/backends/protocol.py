"""What every backend is: a network bound to preallocated buffers, on the CPU or on a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from revstep.engine.program.points import whole_interval
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.kernels.layout import Array

if TYPE_CHECKING:
    import torch


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class NetworkBuffers:
    """What one network call of N rows reads and writes; a backend keeps the addresses.

    All are numpy arrays, or torch tensors on one device.

    Attributes:
        x: (N, *shape), the network's input: float32, or on a device the denoiser's dtype.
        t: (N,) float32, the network's times.
        conditions: name -> (N, *condition shape), of the interface's dtype (``Condition``).
        out: (N, *output shape), of the dtype of x.
        second: (N,) float32, the second times of a network of two; None: it takes one.
    """

    x: Array
    t: Array
    conditions: dict[str, Array]
    out: Array
    second: Array | None = None

    @classmethod
    def allocate(
        cls,
        spec: DenoiserSpec,
        rows: int,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> NetworkBuffers:
        """Zeros, with every condition at its null value: what unused rows hold.

        A second time is that of one step over the whole schedule.

        Args:
            spec: The denoiser's spec.
            rows: N.
            dtype: Of x and the output, on a device; None: float32.
            device: Where tensors are allocated; None: numpy arrays.
        """
        zeros, taken = _makers(rows, device)
        second = None
        if spec.second_time is not None:
            second = zeros((), "float32")
            second[:] = whole_interval(spec)
        conditions = {c.name: zeros(c.shape, c.interface) for c in spec.conditions}
        for condition in spec.conditions:
            conditions[condition.name][:] = taken(np.array(condition.filler, order="C"))
        return cls(
            x=zeros(spec.shape, dtype or "float32"),
            t=zeros((), "float32"),
            conditions=conditions,
            out=zeros(spec.output_shape, dtype or "float32"),
            second=second,
        )

    def inputs(self, spec: DenoiserSpec) -> dict[str, Array]:
        """The network's inputs by the names that the spec gives them, in the module's order."""
        times = (self.t,) if self.second is None else (self.t, self.second)
        named = {time.name: values for time, values in zip(spec.times, times, strict=True)}
        return {spec.name: self.x, **named, **self.conditions}

    def first(self, rows: int) -> NetworkBuffers:
        """The first rows, on the same memory."""
        return NetworkBuffers(
            self.x[:rows],
            self.t[:rows],
            {name: value[:rows] for name, value in self.conditions.items()},
            self.out[:rows],
            None if self.second is None else self.second[:rows],
        )

    def tensors(self) -> NetworkBuffers:
        """Numpy arrays as torch tensors, on the same memory; tensors stay themselves."""
        import torch

        if isinstance(self.x, torch.Tensor):
            return self
        with torch.inference_mode(False):  # they outlive the caller's mode
            return NetworkBuffers(
                torch.from_numpy(self.x),
                torch.from_numpy(self.t),
                {name: torch.from_numpy(value) for name, value in self.conditions.items()},
                torch.from_numpy(self.out),
                None if self.second is None else torch.from_numpy(self.second),
            )


class Denoiser(Protocol):
    """A network that runs on bound numpy buffers. Binding and calling must be thread-safe."""

    @property
    def spec(self) -> DenoiserSpec:
        """What must be known of the network besides its weights."""
        ...

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that runs the network on ``buffers``, in place."""
        ...

    def describe(self) -> dict[str, Any]:
        """What runs: backend, version, device, precision, threads."""
        ...


@runtime_checkable
class CompilesRows(Protocol):
    """A network that may be compiled anew for every number of rows."""

    @property
    def compiles_rows(self) -> bool:
        """Whether it is."""
        ...


class DeviceDenoiser(Denoiser, Protocol):
    """A network on a torch device, bound to tensors on it.

    Its calls enqueue the network on torch's current stream, and wait for nothing.
    """

    @property
    def dtype(self) -> torch.dtype:
        """Of x and the output."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        ...

    @property
    def stream(self) -> torch.cuda.Stream | None:
        """The one CUDA stream that its calls may come on; None: any."""
        ...

    @property
    def capturable(self) -> str | None:
        """None, or why its calls can't be captured in a CUDA graph."""
        ...


def index_hint(spec: DenoiserSpec) -> str:
    """What an index error may come from, to end its text; empty where all values are checked."""
    open_ended = [f"{c.name!r}" for c in spec.conditions if "int" in c.dtype and c.allowed is None]
    if not open_ended:
        return ""
    return (
        f". Does a value of the condition {', '.join(open_ended)} lie beyond one of the network's "
        "tables? Condition(limits=(min, max)) has values checked before a run"
    )


def _makers(
    rows: int, device: torch.device | None
) -> tuple[Callable[[tuple[int, ...], Any], Array], Callable[[Array], Array]]:
    """What makes zeros (rows, *shape) of a dtype or its name, and takes a numpy array there."""
    if device is None:
        return lambda shape, dtype: np.zeros((rows, *shape), dtype), lambda array: array
    import torch

    def zeros(shape: tuple[int, ...], dtype: Any) -> torch.Tensor:
        kind = getattr(torch, dtype) if isinstance(dtype, str) else dtype
        return torch.zeros((rows, *shape), dtype=kind, device=device)

    return zeros, torch.from_numpy
