"""TensorRT's Python packages: found, with a log, and their messages read as causes.

``tensorrt`` 10.x and 11.x and ``tensorrt_rtx`` 1.x share one Python API but for a few names; what
only some of them have is asked for with ``hasattr``, never by version. Neither raises when a call
fails: it returns None or False and writes the reason to the log.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import gc
import importlib
import threading
from collections.abc import Iterator
from typing import Any

from revstep.engine.backends.trt.packages import PACKAGES
from revstep.engine.checks import check_one_of
from revstep.engine.errors import BackendError

KEPT = 64  # log lines; the last ones explain a failure


@dataclasses.dataclass(frozen=True, slots=True)
class Cause:
    """Why a call failed.

    Attributes:
        name: ``limit``, ``driver``, ``memory``, ``version``, ``gpu``, ``damaged`` or ``unknown``.
        text: For a person.
        rebuild: Whether compiling again on this machine fixes it.
    """

    name: str
    text: str
    rebuild: bool


_CAUSES = (  # the specific first: without a driver, its absence is in every log
    (
        Cause(
            "limit",
            "the scratch memory that it may use is too small; give a larger --memory-limit, or "
            "none (on a small GPU: a smaller batch)",
            rebuild=False,
        ),
        ("within workspace limit", "insufficient workspace"),
    ),
    (
        Cause(
            "memory",
            "the GPU's memory is too small for it; free some, use a smaller batch, or a smaller "
            "--memory-limit at compile time",
            rebuild=False,
        ),
        ("out of memory", "outofmemory", "out_of_memory", "cudaerror 2)", "cudaerror 2:",
         "insufficient_gpu_memory", "std::bad_alloc"),
    ),
    (
        Cause("version", "it was built by another TensorRT than the installed one", rebuild=True),
        ("not compatible with this version", "version_mismatch", "expecting library version",
         "version tag does not match", "stdversion"),
    ),
    (
        Cause("gpu", "it was built for another GPU", rebuild=True),
        ("incompatible device", "unsupported_cc", "expecting compute"),
    ),
    (
        Cause("damaged", "the plan is cut short or damaged", rebuild=True),
        ("malformed_engine", "serialization assertion", "magic tag", "header.size",
         "serialized engine is corrupt"),
    ),
    (
        Cause(
            "driver",
            "this machine has no NVIDIA driver that this TensorRT can use (no GPU, no driver, or "
            "one older than its CUDA); install or update the driver, or load with device='cpu'",
            rebuild=False,
        ),
        ("cudaerror 35", "driver version is insufficient", "cuda initialization failure",
         "no cuda-capable device", "cudaerror 100", "old_cuda_driver", "libcuda.so"),
    ),
)  # fmt: skip


def cause_of(text: str) -> Cause:
    """The cause in TensorRT's messages; ``unknown`` where they have none."""
    lower = text.lower()
    for cause, patterns in _CAUSES:
        if any(pattern in lower for pattern in patterns):
            return cause
    return Cause("unknown", "TensorRT refused it", rebuild=True)


class LogLines:
    """The last warnings and errors of a TensorRT; safe from any thread."""

    def __init__(self) -> None:
        self._lines: collections.deque[tuple[int, str, str]] = collections.deque(maxlen=KEPT)
        self._count = 0
        self._lock = threading.Lock()

    def add(self, severity: str, text: str) -> None:
        """Keeps a line."""
        with self._lock:
            self._count += 1
            self._lines.append((self._count, severity, text))

    def mark(self) -> int:
        """Where the log is now, for ``text``."""
        with self._lock:
            return self._count

    def text(self, since: int = 0, limit: int = 1500) -> str:
        """The errors (without any: the warnings) after a mark, joined; empty without either."""
        with self._lock:
            lines = [(kind, text) for number, kind, text in self._lines if number > since]
        errors = [text for kind, text in lines if kind != "WARNING"]
        chosen = errors or [text for _, text in lines]
        return " | ".join(" ".join(text.split()) for text in chosen)[-limit:]


@dataclasses.dataclass(frozen=True)
class TrtLibrary:
    """An imported TensorRT, with the one logger that all its objects share.

    TensorRT logs a second logger while it holds the lock that a Runtime's destruction takes: where
    Python collects garbage inside that log call, the process hangs. So there is one logger, and
    ``calling`` keeps the collector out of the calls that make and destroy such objects.

    Attributes:
        name: ``tensorrt`` or ``tensorrt_rtx``.
        trt: The module.
        version: Its version; plans are tied to it.
        rtx: Whether it is TensorRT-RTX: it builds for GPUs that are not there, and compiles
            kernels when a plan is first used.
    """

    name: str
    trt: Any
    version: str
    rtx: bool

    @functools.cached_property
    def lines(self) -> LogLines:
        """What TensorRT logged."""
        return LogLines()

    @functools.cached_property
    def logger(self) -> Any:
        """The ILogger that keeps warnings and errors in ``lines``."""
        trt, lines = self.trt, self.lines

        class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.WARNING:
                    lines.add(str(severity).rsplit(".", 1)[-1], message)

        return Logger()


@contextlib.contextmanager
def calling() -> Iterator[None]:
    """No garbage collection inside: see ``TrtLibrary``."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def trt_library(name: str) -> TrtLibrary:
    """The installed ``tensorrt`` or ``tensorrt_rtx``.

    Raises:
        ValueError: Another name.
        BackendError: It is not installed, or its libraries don't load.
    """
    check_one_of(name, "TensorRT package", PACKAGES)
    try:
        trt = importlib.import_module(name)
    except ImportError as error:
        raise BackendError(
            f"the {name!r} target needs the package {name}, which is not installed; "
            f"pip install 'revstep[{PACKAGES[name]}]'"
        ) from error
    except OSError as error:
        raise BackendError(
            f"{name} is installed but its libraries don't load: {error}; "
            f"pip install --force-reinstall 'revstep[{PACKAGES[name]}]'"
        ) from error
    return _library(name, trt)


@functools.cache
def _library(name: str, trt: Any) -> TrtLibrary:
    return TrtLibrary(name, trt, str(trt.__version__), hasattr(trt, "ComputeCapability"))
