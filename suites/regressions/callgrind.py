"""Instructions and allocations of calls, counted by valgrind's callgrind.

A worker makes each of its tasks so many times between two marks, calls of a function of the C
library that callgrind ends a part of its counts at; so the start of Python, imports and caches are
in other parts. Valgrind emulates the processor, so a count is the same whatever else runs, and it
knows no AVX-512: the kernels take their AVX2 path everywhere. What numpy could choose at run time
is turned off, and glibc reads what the emulated processor says of itself.
"""

from __future__ import annotations

import dataclasses
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from suites.regressions import process
from suites.regressions.figure import CannotMeasure, Place
from suites.regressions.worker import MARK

ALLOCATORS = frozenset({"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"})
FEATURE = "avx2"  # what the emulated processor has where the real one has it


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a call costs.

    Attributes:
        instructions: Instructions of the processor.
        allocations: Calls of the C library's allocators.
    """

    instructions: float
    allocations: float


def costs(
    place: Place,
    worker: str,
    counts: Mapping[str, int],
    *,
    settings: Mapping[str, str] | None = None,
) -> dict[str, Cost]:
    """What one call of each task of a worker costs.

    Args:
        place: What is measured.
        worker: A module of the suites, whose tasks ``worker.make`` runs.
        counts: task -> how many calls are measured.
        settings: Environment variables of the worker.

    Raises:
        CannotMeasure: No valgrind, or no processor that it can emulate.
        RuntimeError: The worker failed.
    """
    check_machine()
    settings = {"NPY_DISABLE_CPU_FEATURES": _numpy_features(), **(settings or {})}
    words = [f"{name}={count}" for name, count in counts.items()]
    with tempfile.TemporaryDirectory(prefix="revstep-callgrind-") as folder:
        out = Path(folder) / "out"
        command = [
            "valgrind", "--tool=callgrind", "-q", f"--callgrind-out-file={out}",
            f"--dump-before={MARK}",
        ]  # fmt: skip
        process.run(place, worker, *words, under=command, settings=settings)
        # A part ends where a mark begins: the first is the start, then a task and what lies
        # between two tasks take turns.
        parts = [out.with_name(f"out.{2 * k + 2}") for k in range(len(counts))]
        if not all(part.exists() for part in parts):
            raise RuntimeError(f"callgrind saw no calls of {MARK} in {worker}")
        return {
            name: _cost(part.read_text(encoding="utf-8", errors="replace"), counts[name])
            for name, part in zip(counts, parts, strict=True)
        }


def check_machine() -> None:
    """Raises CannotMeasure where instructions can't be counted, or would be others."""
    if shutil.which("valgrind") is None:
        raise CannotMeasure("valgrind is not installed (Debian: apt-get install valgrind)")
    if platform.machine() != "x86_64":
        raise CannotMeasure(f"the committed counts are of x86_64; this is {platform.machine()}")
    from revstep.kernels import native_isas

    if not native_isas():
        raise CannotMeasure(
            "revstep has no native kernels here: install it with REVSTEP_REQUIRE_NATIVE=1"
        )
    if FEATURE not in native_isas():
        raise CannotMeasure(f"this processor has no {FEATURE}, so valgrind can't emulate it")


def valgrind_version() -> str:
    """As ``3.19.0``; empty without valgrind."""
    if shutil.which("valgrind") is None:
        return ""
    done = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("valgrind-")


def read_counts(text: str) -> tuple[int, int]:
    """Instructions and allocations of a callgrind.out file.

    Raises:
        ValueError: It has no totals.
    """
    totals = re.search(r"^totals: (\d+)", text, re.MULTILINE)
    if totals is None:
        raise ValueError("callgrind wrote no totals")
    names: dict[str, str] = {}
    allocations, called = 0, ""
    for line in text.splitlines():
        if line.startswith(("fn=", "cfn=")):
            number, _, name = line.partition("=")[2].partition(" ")
            names.setdefault(number, name.partition("'")[0])  # 'malloc'2 calls itself
            called = names[number] if line[0] == "c" else ""
        elif line.startswith("calls=") and called in ALLOCATORS:
            allocations += int(line[len("calls=") :].split()[0])
    return int(totals[1]), allocations


def _cost(text: str, calls: int) -> Cost:
    instructions, allocations = read_counts(text)
    return Cost(instructions / calls, allocations / calls)


def _numpy_features() -> str:
    """What numpy could choose at run time, of every kind of processor."""
    home = "numpy._core" if find_spec("numpy._core") else "numpy.core"  # numpy 1
    return " ".join(import_module(f"{home}._multiarray_umath").__cpu_dispatch__)
