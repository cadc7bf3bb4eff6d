"""A GPU: one CUDA stream, copies through pinned memory, and events."""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.devices.gpu_kernels import GpuKernels
from revstep.engine.devices.protocol import Mark, PreparedStep
from revstep.engine.errors import DeviceMemoryError
from revstep.kernels import StepBuffers

if TYPE_CHECKING:
    import torch


NO_MEMORY = ("out of memory", "ALLOC_FAILED", "Failed to allocate memory")

# torch allows one capture at a time in a process, and its memory may not be released meanwhile
CAPTURING = threading.Lock()


@contextlib.contextmanager
def plain_modes(device: torch.device) -> Iterator[None]:
    """The caller's modes of torch (autocast, inference mode) are off inside.

    What runs, and what is captured, must not depend on who comes first.
    """
    import torch

    plain = torch.autocast(device.type, enabled=False)
    with plain, torch.inference_mode(False), torch.no_grad():
        yield


@contextlib.contextmanager
def memory_named(device: torch.device, doing: str, fix: str) -> Iterator[None]:
    """Turns an allocator's error into one that names what ran and the option that fixes it."""
    import torch

    try:
        yield
    except Exception as error:  # ONNX Runtime's errors share no other base
        text = str(error)
        short = isinstance(error, torch.OutOfMemoryError) or any(t in text for t in NO_MEMORY)
        if isinstance(error, DeviceMemoryError) or not short:
            raise
        traceback.clear_frames(error.__traceback__)  # they hold what was allocated
        if device.type == "cuda":
            with CAPTURING:
                torch.cuda.empty_cache()
        first = text.partition("\n")[0][:300]
        raise DeviceMemoryError(f"{device} is out of memory {doing}: {first}; {fix}") from None


class _Event:
    """A recorded event: a mark, or with times a stamp."""

    def __init__(self, stream: torch.cuda.Stream, timed: bool) -> None:
        import torch

        make: Any = torch.cuda.Event
        self.event = make(enable_timing=timed)
        self.event.record(stream)

    def wait(self) -> None:
        self.event.synchronize()


class CudaDevice:
    """Work in order on one stream of a GPU. See ``Device``.

    Args:
        device: The torch device.
        stream: The stream, where a backend brings its own.
        kernels: What runs the step: ``triton``, or ``aot``: the compiled kernels in ``folder``.
        folder: A bundle's kernels.

    Attributes:
        device: The torch device.
        stream: The stream.
    """

    ahead = 2
    warm_ups = 3

    def __init__(
        self,
        device: torch.device,
        stream: torch.cuda.Stream | None = None,
        *,
        kernels: str = "triton",
        folder: Path | None = None,
    ) -> None:
        import torch

        self.device = device
        self.name = str(device)
        make: Any = torch.cuda.Stream
        self.stream: torch.cuda.Stream = make(device) if stream is None else stream
        self._kernels = GpuKernels(device, kernels, folder)

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Makes it torch's current stream, in this thread, after the caller's own work."""
        import torch

        with plain_modes(self.device):
            self.stream.wait_stream(torch.cuda.current_stream(self.device))  # it may write weights
            with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
                yield

    def zeros(self, shape: tuple[int, ...], dtype: str) -> torch.Tensor:
        """A tensor; uint64 is int64 of the same bits, which torch computes with."""
        import torch

        kind = getattr(torch, "int64" if dtype == "uint64" else dtype)
        return torch.zeros(shape, dtype=kind, device=self.device)

    def upload(self, array: NDArray[Any]) -> torch.Tensor:
        """A copy on the device, through pinned memory."""
        # torch keeps pinned memory until the copies that were queued from it are done
        return _host_tensor(array).pin_memory().to(self.device, non_blocking=True)

    def download(self, tensor: torch.Tensor) -> NDArray[Any]:
        """A copy in pinned memory."""
        import torch

        host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        return np.asarray(host.numpy())

    def mark(self) -> Mark:
        """An event."""
        return _Event(self.stream, timed=False)

    def stamp(self) -> _Event:
        """An event with its time."""
        return _Event(self.stream, timed=True)

    def ns_between(self, earlier: _Event, later: _Event) -> int:
        """The GPU's own time between them."""
        later.wait()
        return int(earlier.event.elapsed_time(later.event) * 1e6)

    def prepare(self, buffers: StepBuffers) -> PreparedStep:
        """The step in Triton, or as compiled ahead of time; its code is loaded.

        Raises:
            BackendError: The kernels are missing.
        """
        step = self._kernels.prepare(buffers)
        step.warm_up()
        return step

    def fill_noise(self, out: torch.Tensor, seed: torch.Tensor, seeds: NDArray[np.uint64]) -> None:
        """Fills ``out`` (k, D) with the initial noise of ``seed``, on the device."""
        self._kernels.initial_noise(out, seed)

    def memory_named(self, doing: str, fix: str) -> contextlib.AbstractContextManager[None]:
        """See ``memory_named``."""
        return memory_named(self.device, doing, fix)

    def describe_kernels(self) -> str:
        """``triton``, or ``aot (sm_90)``: compiled for that GPU."""
        return self._kernels.describe()


def _host_tensor(array: NDArray[Any]) -> torch.Tensor:
    """A copy as a tensor; uint64 as int64."""
    import torch

    copy = np.array(array, order="C")
    return torch.from_numpy(copy.view(np.int64) if copy.dtype == np.uint64 else copy)
