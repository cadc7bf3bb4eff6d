"""From a trained module to a bundle, and from a bundle to a compiled one.

Nothing heavy is imported before it is used: torch, onnx and diffusers are the ``export`` extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from revstep.export.opsets import OPSETS

if TYPE_CHECKING:
    from revstep.export.parity.bounds import BOUNDS
    from revstep.export.parity.check import check_parity
    from revstep.export.parity.vectors import make_parity
    from revstep.export.sources.diffusers_folder import export_diffusers, load_diffusers
    from revstep.export.sources.diffusers_schedule import Sampling, read_scheduler
    from revstep.export.sources.factory import load_factory
    from revstep.export.sources.module import export_module
    from revstep.export.targets.compile import compile_bundle
    from revstep.export.targets.kernels import compile_kernels

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

HOMES = {
    "BOUNDS": "parity.bounds",
    "BuildOptions": "targets.options",
    "Profile": "targets.options",
    "Sampling": "sources.diffusers_schedule",
    "check_parity": "parity.check",
    "compile_bundle": "targets.compile",
    "compile_kernels": "targets.kernels",
    "export_diffusers": "sources.diffusers_folder",
    "export_module": "sources.module",
    "load_diffusers": "sources.diffusers_folder",
    "load_factory": "sources.factory",
    "make_parity": "parity.vectors",
    "read_scheduler": "sources.diffusers_schedule",
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
