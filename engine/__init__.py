"""The runtime: samplers as programs, the loop, and the engine that runs a bundle."""

from __future__ import annotations

from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.bundle.reader import Bundle
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
from revstep.engine.open.bundle import load
from revstep.engine.open.module import from_module
from revstep.engine.program import samplers
from revstep.engine.program.guidance import GuidanceInterval, GuidanceWeight
from revstep.engine.program.points import Point
from revstep.engine.program.samplers import (
    DDIM,
    DDPM,
    SAMPLERS,
    DPMSolverPP2M,
    RePaint,
    make_sampler,
    sampler,
)
from revstep.engine.program.table import StepProgram, build_program
from revstep.engine.program.trace import Estimate, Run
from revstep.engine.program.vector import Vector
from revstep.engine.runtime.loop import Timing
from revstep.engine.runtime.noise import initial_noise, slerp
from revstep.engine.runtime.samples import Samples, images_from
from revstep.engine.spec.denoiser import Condition, Decoder, DenoiserSpec, TimeInput
from revstep.engine.spec.grids import (
    AYS_SD15,
    AYS_SDXL,
    AYS_SVD,
    SPACINGS,
    BetaGrid,
    ExponentialGrid,
    KarrasGrid,
    LeadingGrid,
    LinspaceGrid,
    LogSNRGrid,
    ShiftedGrid,
    Spacing,
    TimeGrid,
    TrailingGrid,
    flow_shift,
)
from revstep.engine.spec.schedule import (
    ContinuousVPSchedule,
    FlowSchedule,
    Schedule,
    VESchedule,
    VPSchedule,
)

__all__ = [
    "AYS_SD15",
    "AYS_SDXL",
    "AYS_SVD",
    "DDIM",
    "DDPM",
    "SAMPLERS",
    "SPACINGS",
    "BackendError",
    "BetaGrid",
    "Bundle",
    "BundleError",
    "Cancelled",
    "CapacityError",
    "CompileError",
    "Condition",
    "ContinuousVPSchedule",
    "DPMSolverPP2M",
    "Decoder",
    "Denoiser",
    "DenoiserSpec",
    "DeviceMemoryError",
    "Engine",
    "Estimate",
    "ExponentialGrid",
    "ExportError",
    "FlowSchedule",
    "GuidanceInterval",
    "GuidanceWeight",
    "KarrasGrid",
    "LeadingGrid",
    "LinspaceGrid",
    "LogSNRGrid",
    "NetworkBuffers",
    "NonFiniteError",
    "ParityError",
    "Point",
    "Preview",
    "ProgramError",
    "RePaint",
    "RevstepError",
    "Run",
    "Samples",
    "Schedule",
    "ShiftedGrid",
    "Spacing",
    "StepProgram",
    "TimeGrid",
    "TimeInput",
    "Timing",
    "TrailingGrid",
    "VESchedule",
    "VPSchedule",
    "Vector",
    "build_program",
    "flow_shift",
    "from_module",
    "images_from",
    "initial_noise",
    "load",
    "make_sampler",
    "sampler",
    "samplers",
    "slerp",
]
