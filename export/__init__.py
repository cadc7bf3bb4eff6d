"""From a trained module to a bundle, and from a bundle to a compiled one.

Nothing heavy is imported before it is used: torch, onnx and diffusers are the ``export`` extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from revstep import moved

if TYPE_CHECKING:  # the same names as HOMES
    from revstep.engine.bundle.kernels import KernelFiles as KernelFiles
    from revstep.export.fit.reversed_flow import reversed_flow as reversed_flow
    from revstep.export.fit.score import SpecScore as SpecScore
    from revstep.export.fit.score import score_spec as score_spec
    from revstep.export.fit.suggest import suggest_specs as suggest_specs
    from revstep.export.module.form import Form as Form
    from revstep.export.parity.bounds import BOUNDS as BOUNDS
    from revstep.export.parity.bounds import Bounds as Bounds
    from revstep.export.parity.check import check_parity as check_parity
    from revstep.export.parity.vectors import make_parity as make_parity
    from revstep.export.progress import Stages as Stages
    from revstep.export.sources.checkpoint import Checkpoint as Checkpoint
    from revstep.export.sources.diffusers.folder import export_diffusers as export_diffusers
    from revstep.export.sources.diffusers.folder import load_diffusers as load_diffusers
    from revstep.export.sources.diffusers.folder import (
        load_diffusers_checkpoint as load_diffusers_checkpoint,
    )
    from revstep.export.sources.diffusers_schedule import Sampling as Sampling
    from revstep.export.sources.diffusers_schedule import read_scheduler as read_scheduler
    from revstep.export.sources.factory import load_factory as load_factory
    from revstep.export.sources.module import OPSETS as OPSETS
    from revstep.export.sources.module import export_module as export_module
    from revstep.export.sources.onnx_file.export import export_onnx as export_onnx
    from revstep.export.targets.compile import compile_bundle as compile_bundle
    from revstep.export.targets.kernels import compile_kernels as compile_kernels
    from revstep.export.targets.options import BuildOptions as BuildOptions
    from revstep.export.targets.options import Profile as Profile

HOMES = {
    "BOUNDS": "revstep.export.parity.bounds",
    "Bounds": "revstep.export.parity.bounds",
    "BuildOptions": "revstep.export.targets.options",
    "Checkpoint": "revstep.export.sources.checkpoint",
    "Form": "revstep.export.module.form",
    "KernelFiles": "revstep.engine.bundle.kernels",
    "OPSETS": "revstep.export.sources.module",
    "Profile": "revstep.export.targets.options",
    "Sampling": "revstep.export.sources.diffusers_schedule",
    "SpecScore": "revstep.export.fit.score",
    "Stages": "revstep.export.progress",
    "check_parity": "revstep.export.parity.check",
    "compile_bundle": "revstep.export.targets.compile",
    "compile_kernels": "revstep.export.targets.kernels",
    "export_diffusers": "revstep.export.sources.diffusers.folder",
    "export_module": "revstep.export.sources.module",
    "export_onnx": "revstep.export.sources.onnx_file.export",
    "load_diffusers": "revstep.export.sources.diffusers.folder",
    "load_diffusers_checkpoint": "revstep.export.sources.diffusers.folder",
    "load_factory": "revstep.export.sources.factory",
    "make_parity": "revstep.export.parity.vectors",
    "read_scheduler": "revstep.export.sources.diffusers_schedule",
    "reversed_flow": "revstep.export.fit.reversed_flow",
    "score_spec": "revstep.export.fit.score",
    "suggest_specs": "revstep.export.fit.suggest",
}

__all__ = list(HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)


if not TYPE_CHECKING:  # which should report a misspelt name
    __getattr__ = moved.names(__name__, HOMES)
