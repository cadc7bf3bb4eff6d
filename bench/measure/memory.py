"""Peak memory of this process, on its GPU too, since it was last asked, and before."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from revstep.bench.measure.gpu import own_bytes

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peaks(gpu: int | None = None) -> None:
    """Begins anew; where the system can't, the peaks are the whole process's.

    Args:
        gpu: One that is used, by CUDA's number.
    """
    with contextlib.suppress(OSError):
        CLEAR.write_text("5", encoding="ascii")
    if gpu is not None:
        import torch

        torch.cuda.reset_peak_memory_stats(gpu)


def held() -> int | None:
    """Bytes that the process holds now."""
    return _status("VmRSS:")


def peaks(gpu: int | None = None) -> dict[str, Any]:
    """``host_bytes`` and ``device_bytes``; None where there is none, or nothing says.

    A device's are what the driver counts for this process now, and what torch's allocator has given
    back of its peak. Where the driver doesn't count by process, they are what is taken of the
    device by ``all`` of them: ``device_of`` says which.
    """
    found, whose = (None, None) if gpu is None else _device(gpu)
    return {"host_bytes": _host(), "device_bytes": found, "device_of": whose}


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


def _device(gpu: int) -> tuple[int, str]:
    import torch

    kept = torch.cuda.memory_reserved(gpu)
    given_back = torch.cuda.max_memory_reserved(gpu) - kept
    own = own_bytes(gpu)
    if own is not None and own >= kept:  # less is another process of that number
        return own + given_back, "process"
    free, total = torch.cuda.mem_get_info(gpu)
    return int(total - free + given_back), "all"
