"""revstep: a compiled inference engine for diffusion models.

Every sampler is a table of numbers and every step is one fused kernel. ``load`` a bundle and
``sample`` it:

    engine = revstep.load("x.revstep")
    images = engine.sample(16, sampler="ddim", steps=20, seed=0).pil()
"""

from __future__ import annotations

from revstep.engine.bundle import Bundle, CompiledEntry
from revstep.engine.denoiser import Denoiser, NetworkBuffers
from revstep.engine.engine import Engine, Preview
from revstep.engine.errors import (
    BackendError,
    BundleError,
    Cancelled,
    CapacityError,
    CompileError,
    DeviceMemoryError,
    ExportError,
    NonFiniteError,
    ParityError,
    ProgramError,
    RevstepError,
)
from revstep.engine.live import from_module
from revstep.engine.loading import load
from revstep.engine.program import StepProgram, build_program
from revstep.engine.samplers import DDIM, DDPM, SAMPLERS, DPMSolverPP2M, make_sampler
from revstep.engine.samples import Samples
from revstep.engine.schedule import FlowSchedule, Schedule, VESchedule, VPSchedule
from revstep.engine.spec import Condition, Decoder, DenoiserSpec, TimeInput
from revstep.engine.trace import Run

__version__ = "0.1.0"

__all__ = [
    "DDIM",
    "DDPM",
    "SAMPLERS",
    "BackendError",
    "Bundle",
    "BundleError",
    "Cancelled",
    "CapacityError",
    "CompileError",
    "CompiledEntry",
    "Condition",
    "DPMSolverPP2M",
    "Decoder",
    "Denoiser",
    "DenoiserSpec",
    "DeviceMemoryError",
    "Engine",
    "ExportError",
    "FlowSchedule",
    "NetworkBuffers",
    "NonFiniteError",
    "ParityError",
    "Preview",
    "ProgramError",
    "RevstepError",
    "Run",
    "Samples",
    "Schedule",
    "StepProgram",
    "TimeInput",
    "VESchedule",
    "VPSchedule",
    "__version__",
    "build_program",
    "from_module",
    "load",
    "make_sampler",
]
