"""The runtime: samplers as programs, the loop, and the engine that runs a bundle."""

from __future__ import annotations

from revstep.engine.bundle import Bundle
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
from revstep.engine.loop import Timing
from revstep.engine.program import StepProgram, build_program
from revstep.engine.samplers import DDIM, DDPM, SAMPLERS, DPMSolverPP2M, make_sampler
from revstep.engine.samples import Samples, images_from
from revstep.engine.schedule import FlowSchedule, Schedule, VESchedule, VPSchedule
from revstep.engine.spec import Condition, Decoder, DenoiserSpec, TimeInput

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
    "Samples",
    "Schedule",
    "StepProgram",
    "TimeInput",
    "Timing",
    "VESchedule",
    "VPSchedule",
    "build_program",
    "from_module",
    "images_from",
    "load",
    "make_sampler",
]
