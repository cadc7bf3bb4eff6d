"""Peak memory of this process, and of its GPU, since it was last asked, and before."""

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


def held() -> int | None:
    """Bytes that the process holds now."""
    return _status("VmRSS:")


def peaks(on_gpu: bool) -> dict[str, int | None]:
    """``host_bytes`` and ``device_bytes``; None where there is none, or nothing says.

    A device's are what the driver says is taken now, by all processes, and what torch's allocator
    has given back of its peak.
    """
    return {"host_bytes": _host(), "device_bytes": _device() if on_gpu else None}


def _host() -> int | None:
    if (found := _status("VmHWM:")) is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


def _status(name: str) -> int | None:
    with contextlib.suppress(OSError, StopIteration):
        lines = STATUS.read_text(encoding="ascii").splitlines()
        line = next(line for line in lines if line.startswith(name))
        return int(line.split()[1]) << 10
    return None


def _device() -> int:
    import torch

    free, total = torch.cuda.mem_get_info()
    given_back = torch.cuda.max_memory_reserved() - torch.cuda.memory_reserved()
    return int(total - free + given_back)
