"""From a trained module to a bundle, and from a bundle to a compiled one.

Nothing heavy is imported before it is used: torch, onnx and diffusers are the ``export`` extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from revstep.export.compile import compile_bundle
    from revstep.export.diffusers_import import export_diffusers, load_diffusers
    from revstep.export.diffusers_schedule import Sampling, read_scheduler
    from revstep.export.factory import load_factory
    from revstep.export.kernel_compile import compile_kernels
    from revstep.export.module_export import export_module
    from revstep.export.parity import BOUNDS, check_parity, make_parity

__all__ = [
    "BOUNDS",
    "OPSETS",
    "Sampling",
    "check_parity",
    "compile_bundle",
    "compile_kernels",
    "export_diffusers",
    "export_module",
    "load_diffusers",
    "load_factory",
    "make_parity",
    "read_scheduler",
]

OPSETS = (18, 19, 20, 21, 22)  # from 23 the Attention operator breaks TensorRT-RTX's small heads

HOMES = {
    "BOUNDS": "parity",
    "BuildOptions": "trt_build",
    "Profile": "trt_build",
    "Sampling": "diffusers_schedule",
    "check_parity": "parity",
    "compile_bundle": "compile",
    "compile_kernels": "kernel_compile",
    "export_diffusers": "diffusers_import",
    "export_module": "module_export",
    "load_diffusers": "diffusers_import",
    "load_factory": "factory",
    "make_parity": "parity",
    "read_scheduler": "diffusers_schedule",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
