"""Torch devices: which one runs, its queue of work, and its errors by name.

On "cpu" the same code runs without streams and events: that is how tests run all of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
import traceback
from collections.abc import Iterator
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import BackendError, DeviceMemoryError
from revstep.engine.nearest import unknown

if TYPE_CHECKING:
    import torch

__all__ = [
    "CAPTURING",
    "Mark",
    "Queue",
    "check_device",
    "cuda_device",
    "driver_gpus",
    "memory_named",
]

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NO_MEMORY = ("out of memory", "ALLOC_FAILED", "Failed to allocate memory")

# torch allows one capture at a time in a process, and its memory may not be released meanwhile
CAPTURING = threading.Lock()


def check_device(device: object) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:<i>``.

    Raises:
        ValueError: Anything else.
    """
    kind, _, index = str(device).partition(":")
    known = kind in ("auto", "cpu", "cuda") and (not index or (kind == "cuda" and index.isdigit()))
    if not isinstance(device, str) or not known or device.endswith(":"):
        raise ValueError(unknown("device", device, ("auto", "cpu", "cuda", "cuda:<number>")))
    return device


def driver_gpus() -> int:
    """GPUs that the NVIDIA driver sees; 0 without a driver. Imports nothing."""
    try:
        driver = ctypes.CDLL(DRIVER)
        count = ctypes.c_int(0)
        if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return 0
    except (OSError, AttributeError):
        return 0
    return count.value


def cuda_device(device: str = "cuda") -> torch.device:
    """The CUDA device of that name, with its number.

    Raises:
        BackendError: No torch, a torch without CUDA, no driver, no such GPU, or a process forked
            from one that used CUDA; the message says what to do.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendError(
            "CUDA needs torch, which is not installed; pip install 'revstep[cuda]', or use "
            "device='cpu'"
        ) from error
    if torch.version.cuda is None:
        if not _has_driver():  # said before what to install for it
            raise BackendError(
                "CUDA was asked for and there is no NVIDIA driver here: use device='cpu' (or, with "
                f"a GPU, install its driver; torch {torch.__version__} is built without CUDA too)"
            )
        raise BackendError(
            f"torch {torch.__version__} is built without CUDA; install a CUDA build of torch "
            "(pip install 'revstep[cuda]'), or use device='cpu'"
        )
    if torch.cuda._is_in_bad_fork():
        raise BackendError(
            "this process was forked from one that used CUDA, and CUDA doesn't work in such a "
            "child: start it with multiprocessing's 'spawn' or 'forkserver' and load the engine "
            "there, or use device='cpu'"
        )
    if not torch.cuda.is_available():
        have = "the NVIDIA driver sees no GPU" if _has_driver() else "there is no NVIDIA driver"
        raise BackendError(
            f"CUDA was asked for and {have} that torch {torch.__version__} (CUDA "
            f"{torch.version.cuda}) can use; `revstep doctor` tells more; install or update the "
            "driver, or use device='cpu'"
        )
    wanted = torch.device(device)
    index = torch.cuda.current_device() if wanted.index is None else wanted.index
    if index >= torch.cuda.device_count():
        raise BackendError(
            f"there is no GPU {index}; this machine has {torch.cuda.device_count()}, numbered "
            "from 0"
        )
    return torch.device("cuda", index)


def _has_driver() -> bool:
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return False
    return True


@contextlib.contextmanager
def memory_named(device: torch.device, doing: str, mend: str) -> Iterator[None]:
    """Turns an allocator's error into one that names what ran and the option that mends it."""
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
        raise DeviceMemoryError(f"{device} is out of memory {doing}: {first}; {mend}") from None


class Mark(Protocol):
    """A place in a queue's work."""

    def wait(self) -> None:
        """Returns when the device has done the work before this place."""
        ...

    def ns_since(self, earlier: Mark) -> int:
        """Device time between two marks with times, both waited for; nanoseconds."""
        ...


class _HostMark:
    def __init__(self) -> None:
        self.at = perf_counter_ns()

    def wait(self) -> None:
        return

    def ns_since(self, earlier: Any) -> int:
        return int(self.at - earlier.at)


class _CudaMark:
    def __init__(self, stream: torch.cuda.Stream, timed: bool) -> None:
        import torch

        event: Any = torch.cuda.Event
        self.event = event(enable_timing=timed)
        self.event.record(stream)

    def wait(self) -> None:
        self.event.synchronize()

    def ns_since(self, earlier: Any) -> int:
        return int(earlier.event.elapsed_time(self.event) * 1e6)


class Queue:
    """Work in order on one device: a CUDA stream of its own, or plain calls on a CPU.

    Args:
        device: The torch device.
        stream: The CUDA stream, where a backend brings its own.
    """

    def __init__(self, device: torch.device, stream: torch.cuda.Stream | None = None) -> None:
        import torch

        self.device = device
        self.stream = stream
        if device.type == "cuda" and stream is None:
            make: Any = torch.cuda.Stream
            self.stream = make(device)

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Makes it torch's current stream, in this thread, after the caller's own work.

        The caller's modes (autocast, inference mode) are off inside: what runs, and what is
        captured, must not depend on who comes first.
        """
        import torch

        plain = torch.autocast(self.device.type, enabled=False)
        with plain, torch.inference_mode(False), torch.no_grad():
            if self.stream is None:
                yield
                return
            self.stream.wait_stream(torch.cuda.current_stream(self.device))  # it may write weights
            with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
                yield

    def upload(self, array: NDArray[Any]) -> torch.Tensor:
        """A copy on the device, through pinned memory, in the queue's order."""
        import torch

        host = torch.from_numpy(np.array(array, order="C"))
        if self.stream is None:
            return host
        # torch keeps pinned memory until the copies that were queued from it are done
        return host.pin_memory().to(self.device, non_blocking=True)

    def download(self, tensor: torch.Tensor) -> torch.Tensor:
        """A copy in host memory; valid once a later mark has been waited for."""
        import torch

        if self.stream is None:
            return tensor.clone()
        host = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
        host.copy_(tensor, non_blocking=True)
        return host

    def mark(self, *, timed: bool = False) -> Mark:
        """The place after all work so far."""
        return _HostMark() if self.stream is None else _CudaMark(self.stream, timed)

    def finish(self) -> None:
        """Waits for all work so far."""
        if self.stream is not None:
            self.stream.synchronize()
