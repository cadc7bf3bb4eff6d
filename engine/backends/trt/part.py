"""A network beside the denoiser in TensorRT: arrays in, arrays out, on a stream of its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.part import ROWS_A_CALL
from revstep.engine.backends.signature import Port
from revstep.engine.backends.trt.plan import TrtPlan, on_device
from revstep.engine.devices.cuda import memory_named
from revstep.engine.errors import BackendError

if TYPE_CHECKING:
    import torch


TYPES = ("float32", "int64", "int32", "bool")  # of the interface of such graphs
FIX = "compile with fewer rows, or use a GPU with more memory"


class TrtPart:
    """A plan with its memory on the GPU, for as many rows as it takes. Thread-safe.

    It runs when it is made: what fails then, another runtime can take the place of. Where kernels
    are compiled at first runs it runs every number of rows, so that no request waits for that.

    Args:
        plan: Its plan, of 1 to some rows.
        who: What it is, for errors.
        device: The torch device.

    Attributes:
        inputs, outputs: See ``PartGraph``.
        rows: The most that the plan takes.
        plans: The plan.
        device: The torch device.

    Raises:
        BackendError: The plan takes no single row, or a type that no interface has; it fails.
    """

    def __init__(self, plan: TrtPlan, who: str, *, device: str | torch.device = "cuda") -> None:
        import torch

        self.plans, self.device, self._who = (plan,), torch.device(device), who
        self._plan, self._lock, self._bound = plan, threading.Lock(), 0
        if plan.rows[0] != 1:
            raise BackendError(
                f"{plan.label} takes {plan.rows[0]} rows and more; {who} is called with 1 and "
                f"more; run: {plan.command}"
            )
        self.rows = min(plan.rows[1], ROWS_A_CALL)
        make: Any = torch.cuda.Stream
        self._stream = make(self.device) if self.device.type == "cuda" else None
        with self._on_gpu(f"opening {plan.label}"):
            self._context = plan.context(self.rows)
            wanted = {name: (self.rows, *shape[1:]) for name, (shape, _) in plan.inputs.items()}
            shapes = wanted | plan.output_shapes(self._context, self.rows, wanted)
            types = {n: _checked(plan, n, t) for n, (_, t) in (plan.inputs | plan.outputs).items()}
            self._memory = {
                name: torch.zeros(shapes[name], dtype=getattr(torch, dtype), device=self.device)
                for name, dtype in types.items()
            }
        ports = {n: Port(n, t, np.dtype(t), (None, *shapes[n][1:])) for n, t in types.items()}
        self.inputs = [ports[name] for name in plan.inputs]
        self.outputs = [ports[name] for name in plan.outputs]
        for count in range(1, self.rows + 1) if plan.compiles else (1,):
            self.run({p.name: np.zeros((count, *p.dims[1:]), p.dtype) for p in self.inputs})

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``PartGraph``."""
        import torch

        arrays = {p.name: np.require(feeds[p.name], p.dtype, ["C", "W"]) for p in self.inputs}
        rows = self._checked_rows(arrays)
        try:
            with self._lock, self._on_gpu(f"running {self._plan.label}"):
                self._bind(rows)
                for name, array in arrays.items():
                    self._memory[name][:rows].copy_(torch.from_numpy(array))
                if not self._context.execute_async_v3(self._stream_handle):
                    raise self._plan.failed_run(rows)
                found = [self._memory[port.name][:rows] for port in self.outputs]
                return [tensor.to("cpu", copy=True).numpy() for tensor in found]  # waits
        except BackendError as error:
            raise type(error)(f"{self._who} failed: {error}") from error
        except RuntimeError as error:  # CUDA's, of what ran on the stream
            raise BackendError(f"{self._who} failed on {self.device}: {error}") from error

    def describe(self) -> dict[str, Any]:
        """See ``PartGraph``."""
        library = self._plan.library
        return {
            "backend": library.name,
            "version": library.version,
            "device": str(self.device),
            "rows": list(self._plan.rows),
        }

    @property
    def _stream_handle(self) -> int:
        return 0 if self._stream is None else int(self._stream.cuda_stream)

    @contextlib.contextmanager
    def _on_gpu(self, doing: str) -> Iterator[None]:
        """Its device and its stream as the current ones."""
        import torch

        stream = torch.cuda.stream(self._stream)  # None: as it is
        with on_device(self.device), stream, memory_named(self.device, doing, FIX):
            yield

    def _bind(self, rows: int) -> None:
        """Has the context take ``rows`` rows; what they need was allocated for the most."""
        if rows == self._bound:
            return
        self._bound = 0
        tensors = {name: tensor[:rows] for name, tensor in self._memory.items()}
        inputs = {port.name: tensors.pop(port.name) for port in self.inputs}
        self._plan.bind(self._context, rows, inputs, tensors)
        self._bound = rows

    def _checked_rows(self, arrays: Mapping[str, NDArray[Any]]) -> int:
        """The rows of a call; a copy to the GPU would broadcast other shapes."""
        rows = len(next(iter(arrays.values())))
        for port in self.inputs:
            found, wanted = arrays[port.name].shape, (rows, *port.dims[1:])
            if found != wanted or not 1 <= rows <= self.rows:
                raise ValueError(
                    f"{self._who} takes {port.name!r} of shape {wanted} with 1 to {self.rows} rows "
                    f"a call; got {found}"
                )
        return rows


def _checked(plan: TrtPlan, name: str, dtype: str) -> str:
    if dtype not in TYPES:
        raise BackendError(
            f"{plan.label} has {name!r} in {dtype}; a bundle's networks take and give "
            f"{', '.join(TYPES)}; run: {plan.command}"
        )
    return dtype
