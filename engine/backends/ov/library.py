"""The OpenVINO package: its import, its one core, and what is asked of its CPU plugin."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

from revstep.engine.errors import BackendError
from revstep.engine.message import Argument
from revstep.engine.system.forks import HeldAtForks, keep_for_ever, renew_in_children
from revstep.engine.system.machine import cpu_name, has_bf16
from revstep.engine.system.telemetry import quiet_openvino

DEVICE = "CPU"
CALLS = HeldAtForks()
"""All calls that compile or run: each takes a lock of the whole library (2026.4.1)."""
HINTS = {"fp32": "f32", "bf16": "bf16"}
"""``precision`` as OpenVINO names it: what it would take by itself is bf16 on many CPUs."""
FIRST_GOOD_BF16 = (2026, 3)  # 2025.4 to 2026.2 give NaN for small convolutions in bf16
INTERFACE = {"f32": "float32", "i64": "int64", "i32": "int32", "boolean": "bool"}


def openvino() -> Any:
    """The package, imported without what reports home.

    Raises:
        BackendError: It is missing, or does not import.
    """
    try:
        with quiet_openvino():
            import openvino as package
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "openvino"
        why = "is not installed" if missing else f"does not import: {error}"
        raise BackendError(
            f"the 'openvino' backend needs OpenVINO, which {why}; pip install 'revstep[openvino]'"
        ) from error
    return package


def installed() -> bool:
    """Whether the package is there; imports nothing."""
    return importlib.util.find_spec("openvino") is not None


def version() -> str:
    """The package's version, without its build."""
    return str(openvino().__version__).partition("-")[0]


class _Core:
    """The process's core; children keep it, as its end would wait for threads that aren't there."""

    def __init__(self) -> None:
        self.core: Any = openvino().Core()
        renew_in_children(self)

    def after_fork(self) -> None:
        keep_for_ever(self.core)


@functools.cache
def _one_core() -> _Core:
    return _Core()


def core() -> Any:
    """The one core of this process."""
    return _one_core().core


def check_precision(precision: str) -> None:
    """Refuses what OpenVINO would not run in the precision that was asked for.

    Raises:
        BackendError: fp16; or bf16, on a processor that would convert every product, or in a
            version that is known to be wrong.
    """
    if precision not in HINTS:
        raise BackendError(
            f"OpenVINO has no {precision} products on a CPU: it would run the graph in another "
            "precision; use ",
            *(Argument("precision", "fp32"), " or ", Argument("precision", "bf16")),
        )
    if precision == "bf16" and not has_bf16():
        raise BackendError(
            f"this processor ({cpu_name()}) has no bf16 products (AVX512-BF16, AMX or ARM's bf16); "
            "use ",
            Argument("precision", "fp32"),
        )
    if precision == "bf16" and _release() < FIRST_GOOD_BF16:
        raise BackendError(
            f"OpenVINO {version()} gives NaN for some networks in bf16; "
            "pip install -U 'revstep[openvino]', or use ",
            Argument("precision", "fp32"),
        )


def _release() -> tuple[int, ...]:
    return tuple(int(n) for n in version().split(".")[:2])


def properties(precision: str, threads: int) -> dict[str, Any]:
    """What the CPU plugin is told.

    With one thread it runs on the caller's, with no stream of its own: nothing waits for threads
    that a fork left behind. Pinned threads of several processes would share one core.
    """
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "NUM_STREAMS": 1 if threads > 1 else 0,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }


def check_taken(compiled: Any, precision: str) -> None:
    """Refuses a compiled model that runs in another precision than it was asked to.

    Raises:
        BackendError: It does.
    """
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if hint != HINTS[precision]:
        raise BackendError(
            f"OpenVINO {version()} runs this graph in {hint}, not in {HINTS[precision]} as asked; "
            "use ",
            Argument("backend", "onnxruntime"),
        )
