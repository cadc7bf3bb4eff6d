"""Fused sampler steps: one meaning (`reference`), run by native C++ kernels where they exist."""

from __future__ import annotations

from revstep.kernels.buffers import StepBuffers
from revstep.kernels.dispatch import (
    StepKernel,
    backend,
    cpu_features,
    native_isas,
    normal_fill,
)

__all__ = [
    "StepBuffers",
    "StepKernel",
    "backend",
    "cpu_features",
    "native_isas",
    "normal_fill",
]
