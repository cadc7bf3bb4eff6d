"""What machine this is: processor, GPUs by the driver's own tool, versions of packages.

Only the standard library; nothing here imports a backend.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from revstep.engine.system.cgroups import PROC, group_folders, read_text
from revstep.engine.system.cores import usable_cpus

NVIDIA_SMI_SECONDS = 10.0  # a driver that hangs must not hang us
FEATURES = (
    *("sse2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "bf16", "sve"),
)  # of an x86 or ARM processor, those that matter to kernels
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}  # those of FEATURES that multiply it


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as ``nvidia-smi`` reports it; memory in MiB."""

    name: str
    driver: str
    compute_capability: str
    memory_mib: int


def cpu_name() -> str:
    """The processor's model name, or its architecture where the system doesn't say."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """The processor's vector features; empty where the system doesn't say."""
    info = _cpuinfo()
    have = set((info.get("flags") or info.get("Features") or "").split())
    return tuple(name for name in FEATURES if name in have)


def processor() -> str:
    """The processor, by all that a measured choice of kernels depends on: name and features."""
    return " ".join((cpu_name(), *cpu_features()))


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself; False where the system doesn't say."""
    return not BF16.isdisjoint(cpu_features())


@cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's fields in Linux's /proc/cpuinfo; empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): " ".join(value.split()) for key, _, value in pairs}


def cpu_count() -> int:
    """Processors that this process may keep busy, by affinity and quota."""
    return usable_cpus()


def memory_bytes() -> int | None:
    """What this process may use of the machine's memory; None where the system doesn't say."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    limit = memory_limit()
    return there if limit is None else min(there, limit)


def memory_limit(proc: Path = PROC) -> int | None:
    """Bytes of memory that the cgroups allow; None: no limit.

    Version 1 writes no limit as a number of exabytes.

    Args:
        proc: As ``group_folders`` takes it.
    """
    files = ("memory.max", "memory.limit_in_bytes")  # of version 2, and of 1
    said = (read_text(folder / f) for folder in group_folders("memory", proc) for f in files)
    return min((int(text) for text in said if text and text.isdigit()), default=None)


def package_version(name: str) -> str | None:
    """The installed version of a distribution, or None; does not import it."""
    import importlib.metadata  # which imports all of email

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def nvidia_gpus() -> tuple[Gpu, ...]:
    """The GPUs that the NVIDIA driver reports; empty without a driver or a GPU."""
    import subprocess

    query = "--query-gpu=name,driver_version,compute_cap,memory.total"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(_gpus_from_csv(done.stdout))


def _gpus_from_csv(text: str) -> list[Gpu]:
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4:
            memory = int(fields[3]) if fields[3].isdigit() else 0
            found.append(Gpu(fields[0], fields[1], fields[2], memory))
    return found
