"""The one GPU that a cell runs on, as the driver's tool sees it: clocks, and this process's memory.

References:
    ``nvidia-smi --help-query-gpu`` and ``--help-query-compute-apps``; its ``-i`` takes a UUID.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from typing import Any

from revstep.engine.system.machine import NVIDIA_SMI_SECONDS

CLOCKS = "clocks.sm,clocks.max.sm,clocks_throttle_reasons.active"
Run = Callable[..., Any]


def clocks_of(gpu: int, run: Run = subprocess.run) -> tuple[float, float, int] | None:
    """(MHz, its highest, why it is throttled) of a GPU by CUDA's number; None: nothing says."""
    for row in _asked(gpu, f"--query-gpu={CLOCKS}", run):
        with contextlib.suppress(ValueError, IndexError):
            return float(row[0]), float(row[1]), int(row[2], 16)
    return None


def own_bytes(gpu: int, run: Run = subprocess.run) -> int | None:
    """What the driver counts for this process on a GPU, CUDA's own share included.

    None where it doesn't say: on Windows, or in a container whose processes have other numbers
    than the driver's.
    """
    for row in _asked(gpu, "--query-compute-apps=pid,used_gpu_memory", run):
        with contextlib.suppress(ValueError, IndexError):
            if int(row[0]) == os.getpid():
                return int(row[1]) << 20
    return None


def _asked(gpu: int, query: str, run: Run) -> list[list[str]]:
    """The fields of each line that the tool answers of that GPU alone; none where it can't."""
    if (uuid := uuid_of(gpu)) is None:
        return []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = run(
            ["nvidia-smi", "-i", uuid, query, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=NVIDIA_SMI_SECONDS, check=True,
        )  # fmt: skip
        return [[field.strip() for field in line.split(",")] for line in done.stdout.splitlines()]
    return []


def uuid_of(gpu: int) -> str | None:
    """A GPU's name for the driver: its number there is another where CUDA sees only some, or sorts.

    None with a torch that doesn't say.
    """
    import torch

    found = getattr(torch.cuda.get_device_properties(gpu), "uuid", None)
    return None if found is None else f"GPU-{str(found).removeprefix('GPU-')}"
