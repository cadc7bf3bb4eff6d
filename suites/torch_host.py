"""A device of torch tensors on a CPU: it runs what a GPU's lane runs, without a GPU.

The kernels are the native ones, on views of the tensors' memory, and a graph is a list of calls;
buckets, slots, counters, arena and look-ahead are the code that runs on a GPU.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from revstep.engine.backends.protocol import DeviceDenoiser
from revstep.engine.devices.cuda import CudaDevice, memory_named, plain_modes
from revstep.engine.devices.protocol import Graph, Graphs, Mark
from revstep.engine.runtime.runtime import Runtime, cuda_runtime, device_runtime
from revstep.kernels import StepBuffers, StepKernel, backend, normal_fill
from revstep.kernels.buffers import numpy_views
from revstep.kernels.noise import STREAM_INITIAL


@dataclasses.dataclass(frozen=True)
class _CallList:
    calls: tuple[Callable[[], object], ...]

    def replay(self) -> None:
        for call in self.calls:
            call()


class CallLists:
    """Graphs that are lists of calls."""

    def capture(self, calls: Sequence[Callable[[], object]]) -> Graph:
        """Keeps the calls; runs none of them."""
        return _CallList(tuple(calls))


class TorchHost:
    """See ``revstep.engine.devices.protocol.Device``."""

    name = "cpu"
    ahead = 2
    warm_ups = 3
    device = torch.device("cpu")
    stamp = staticmethod(perf_counter_ns)

    def use(self) -> contextlib.AbstractContextManager[None]:
        """The caller's modes of torch are off inside."""
        return plain_modes(self.device)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        """A tensor; uint64 is int64 of the same bits."""
        return torch.zeros(shape, dtype=getattr(torch, "int64" if dtype == "uint64" else dtype))

    def upload(self, array: NDArray[Any]) -> torch.Tensor:
        """A copy as a tensor."""
        copy = np.array(array, order="C")
        return torch.from_numpy(copy.view(np.int64) if copy.dtype == np.uint64 else copy)

    def download(self, tensor: torch.Tensor) -> NDArray[Any]:
        """A copy."""
        return np.array(tensor.numpy())

    def mark(self) -> Mark:
        """The device itself."""
        return self

    def wait(self) -> None:
        """Nothing to wait for."""

    def ns_between(self, earlier: int, later: int) -> int:
        """The difference."""
        return later - earlier

    def prepare(self, buffers: StepBuffers) -> StepKernel:
        """The native kernels on the tensors' memory."""
        return StepKernel(numpy_views(buffers))

    def fill_noise(self, out: torch.Tensor, seed: torch.Tensor, seeds: NDArray[np.uint64]) -> None:
        """Fills ``out`` (k, D) with the seeds' initial noise."""
        assert out.data_ptr() % 16 == 0, "a GPU's kernel refuses it"
        normal_fill(out.numpy(), seeds, 0, STREAM_INITIAL)

    def memory_named(self, doing: str, fix: str) -> contextlib.AbstractContextManager[None]:
        """As on a GPU."""
        return memory_named(self.device, doing, fix)

    def describe_kernels(self) -> str:
        """``native`` or ``reference``."""
        return backend()


def torch_host_runtime(
    denoiser: DeviceDenoiser, *, graphs: bool | Graphs | None = True, **options: Any
) -> Runtime:
    """``device_runtime`` on tensors of the CPU.

    Args:
        denoiser: The network, on torch's CPU device.
        graphs: Whether steps are captured, or what captures them.
        options: As for ``device_runtime``.
    """
    if isinstance(graphs, bool):
        graphs = CallLists() if graphs else None
    return device_runtime(denoiser, TorchHost(), graphs=graphs, **options)


def runtime_on(denoiser: DeviceDenoiser, **options: Any) -> Runtime:
    """``cuda_runtime``, or the same lanes without a GPU where the denoiser is on a CPU."""
    if denoiser.device.type == "cuda":
        return cuda_runtime(denoiser, **options)
    return torch_host_runtime(denoiser, **options)


def device_at(where: torch.device, **kernels: Any) -> CudaDevice | TorchHost:
    """The runtime's device at a torch device; ``kernels`` as for ``CudaDevice``."""
    return CudaDevice(where, **kernels) if where.type == "cuda" else TorchHost()
