"""Peak memory of this process, and of its GPU, since it was last asked."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peaks(on_gpu: bool) -> None:
    """Begins anew; where the system can't, the peaks are the whole process's."""
    with contextlib.suppress(OSError):
        CLEAR.write_text("5", encoding="ascii")
    if on_gpu:
        import torch

        torch.cuda.reset_peak_memory_stats()


def peaks(on_gpu: bool) -> dict[str, int | None]:
    """``host_bytes`` and ``device_bytes``; None where there is none, or nothing says.

    A device's are those of torch's allocator and of what else holds its memory: the larger of the
    allocator's peak and what the driver says is taken now by all processes.
    """
    return {"host_bytes": _host(), "device_bytes": _device() if on_gpu else None}


def _host() -> int | None:
    with contextlib.suppress(OSError, StopIteration):
        lines = STATUS.read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith("VmHWM:"))
        return int(line.split()[1]) << 10
    try:
        import resource
    except ImportError:
        return None
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found << 10


def _device() -> int:
    import torch

    free, total = torch.cuda.mem_get_info()
    return max(int(torch.cuda.max_memory_reserved()), total - free)
