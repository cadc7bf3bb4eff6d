"""Which device runs: names, what the driver sees, and why there is no GPU."""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

from revstep.engine.errors import ArgumentError, BackendError
from revstep.engine.message import Argument
from revstep.engine.nearest import unknown

if TYPE_CHECKING:
    import torch


DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
ON_CPU = Argument("device", "cpu")


def check_device(device: object) -> str:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:<i>``.

    Raises:
        ValueError: Anything else.
    """
    kind, _, index = str(device).partition(":")
    known = kind in ("auto", "cpu", "cuda") and (not index or (kind == "cuda" and index.isdigit()))
    if not isinstance(device, str) or not known or device.endswith(":"):
        allowed = ("auto", "cpu", "cuda", "cuda:<number>")
        raise ArgumentError(unknown("device", device, allowed), "device")
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
            "CUDA needs torch, which is not installed; pip install 'revstep[cuda]', or use ", ON_CPU
        ) from error
    if torch.version.cuda is None:
        if not _has_driver():  # said before what to install for it
            raise BackendError(
                "CUDA was asked for and there is no NVIDIA driver here: use ",
                ON_CPU,
                " (or, with a GPU, install its driver; torch "
                f"{torch.__version__} is built without CUDA too)",
            )
        raise BackendError(
            f"torch {torch.__version__} is built without CUDA; install a CUDA build of torch "
            "(pip install 'revstep[cuda]'), or use ",
            ON_CPU,
        )
    if torch.cuda._is_in_bad_fork():
        raise BackendError(
            "this process was forked from one that used CUDA, and CUDA doesn't work in such a "
            "child: start it with multiprocessing's 'spawn' or 'forkserver' and load the "
            "engine there, or use ",
            ON_CPU,
        )
    if not torch.cuda.is_available():
        have = "the NVIDIA driver sees no GPU" if _has_driver() else "there is no NVIDIA driver"
        raise BackendError(
            f"CUDA was asked for and {have} that torch {torch.__version__} (CUDA "
            f"{torch.version.cuda}) can use; `revstep doctor` says more; install or update "
            "the driver, or use ",
            ON_CPU,
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
