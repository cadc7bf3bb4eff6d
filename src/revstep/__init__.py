"""revstep: a compiled inference engine for diffusion models.

Every sampler is a table of numbers and every step is one fused kernel. ``load`` a bundle and
``sample`` it:

    engine = revstep.load("x.revstep")
    images = engine.sample(16, sampler="ddim", steps=20, seed=0).pil()
"""

from __future__ import annotations

from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.bundle.entry import CompiledEntry
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
from revstep.engine.runtime.noise import initial_noise, slerp
from revstep.engine.runtime.samples import Samples
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
from revstep.engine.system.telemetry import keep_quiet as _keep_quiet

_keep_quiet()  # nothing above imports a library that reports home, and all below come later

__version__ = "0.1.0"

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
    "CompiledEntry",
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
    "TrailingGrid",
    "VESchedule",
    "VPSchedule",
    "Vector",
    "__version__",
    "build_program",
    "flow_shift",
    "from_module",
    "initial_noise",
    "load",
    "make_sampler",
    "sampler",
    "samplers",
    "slerp",
]
