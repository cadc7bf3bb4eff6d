"""revstep: a compiled inference engine for diffusion models.

Every sampler is a table of numbers and every step is one fused kernel. ``load`` a bundle and
``sample`` it:

    engine = revstep.load("x.revstep")
    images = engine.sample(16, sampler="ddim", steps=20, seed=0).pil()

An engine
    load, from_module, CudaOptions          from a bundle, or from a live PyTorch module
    Engine: sample, prepare, invert, ...    from any thread
    PreparedRun                             ``engine.prepare(...)``: for control loops
    Request                                 what to draw, as one object: ``engine.sample(request)``
    Samples, Preview, Timing                a run's results, its steps as they run, its times
    initial_noise, slerp                    noise to start from
    Bundle, CompiledEntry, CpuChoice        what ``load`` reads
    Denoiser, NetworkBuffers, Runtime       for a network of your own: ``Engine(denoiser)``

What a network is
    DenoiserSpec                            its shape, prediction, schedule and limits
    Condition, TimeInput, Decoder           parts of that
    SecondTime                              of a network of two times
    SamplerChoice                           its own sampler: ``engine.sample(sampler=None)``
    Encoder, Tokenizer, PictureEncoder      networks that run once a request

Many requests at once
    Service                                 one engine, whose network calls requests share
    Job, Progress, ServiceStats             what it gives

What a run does
    sampler, Sampler                        a sampler of your own
    GuidanceWeight, GuidanceInterval        guidance over time
    StepProgram, build_program              the table that a sampler becomes

Namespaces
    revstep.samplers                        DDIM, UniPC, ...; make_sampler, SAMPLERS; Run, Vector
    revstep.grids                           KarrasGrid, TimeGrid, ...; GRIDS
    revstep.schedules                       VPSchedule, VESchedule, FlowSchedule, ...
    revstep.errors                          RevstepError and its subclasses; ArgumentError
    revstep.export (import it explicitly)   export_module, export_diffusers, compile_bundle, ...
    revstep.compat (import it explicitly)   RevstepScheduler: a diffusers pipeline with this step

``help(revstep.Engine.sample)`` and the like say more; the command line is ``revstep --help``.
"""

from typing import TYPE_CHECKING

from revstep import moved
from revstep.engine.system.telemetry import keep_quiet as _keep_quiet

if TYPE_CHECKING:  # the same names as HOMES
    from revstep import errors as errors
    from revstep import grids as grids
    from revstep import samplers as samplers
    from revstep import schedules as schedules
    from revstep.engine.backends.protocol import Denoiser as Denoiser
    from revstep.engine.backends.protocol import NetworkBuffers as NetworkBuffers
    from revstep.engine.bundle.choice import CpuChoice as CpuChoice
    from revstep.engine.bundle.entry import CompiledEntry as CompiledEntry
    from revstep.engine.bundle.reader import Bundle as Bundle
    from revstep.engine.engine import Engine as Engine
    from revstep.engine.engine import Preview as Preview
    from revstep.engine.errors import RevstepError as RevstepError
    from revstep.engine.open.bundle import load as load
    from revstep.engine.open.cuda_options import CudaOptions as CudaOptions
    from revstep.engine.open.module import from_module as from_module
    from revstep.engine.program.guidance import GuidanceInterval as GuidanceInterval
    from revstep.engine.program.guidance import GuidanceWeight as GuidanceWeight
    from revstep.engine.program.samplers import sampler as sampler
    from revstep.engine.program.table import StepProgram as StepProgram
    from revstep.engine.program.table import build_program as build_program
    from revstep.engine.program.trace import Sampler as Sampler
    from revstep.engine.runtime.noise import initial_noise as initial_noise
    from revstep.engine.runtime.noise import slerp as slerp
    from revstep.engine.runtime.prepared_run import PreparedRun as PreparedRun
    from revstep.engine.runtime.request import Request as Request
    from revstep.engine.runtime.runtime import Runtime as Runtime
    from revstep.engine.runtime.samples import Samples as Samples
    from revstep.engine.runtime.watch import Timing as Timing
    from revstep.engine.service.job import Job as Job
    from revstep.engine.service.job import Progress as Progress
    from revstep.engine.service.service import Service as Service
    from revstep.engine.service.stats import ServiceStats as ServiceStats
    from revstep.engine.spec.denoiser import Condition as Condition
    from revstep.engine.spec.denoiser import Decoder as Decoder
    from revstep.engine.spec.denoiser import DenoiserSpec as DenoiserSpec
    from revstep.engine.spec.denoiser import TimeInput as TimeInput
    from revstep.engine.spec.encoder import Encoder as Encoder
    from revstep.engine.spec.encoder import PictureEncoder as PictureEncoder
    from revstep.engine.spec.encoder import Tokenizer as Tokenizer
    from revstep.engine.spec.sampler_choice import SamplerChoice as SamplerChoice
    from revstep.engine.spec.second_time import SecondTime as SecondTime

_keep_quiet()  # nothing above imports a library that reports home, and all below come later

__version__ = "0.1.0"

HOMES = {  # what is public, imported when it is first asked for
    "Bundle": "revstep.engine.bundle.reader",
    "CompiledEntry": "revstep.engine.bundle.entry",
    "Condition": "revstep.engine.spec.denoiser",
    "CpuChoice": "revstep.engine.bundle.choice",
    "CudaOptions": "revstep.engine.open.cuda_options",
    "Decoder": "revstep.engine.spec.denoiser",
    "Denoiser": "revstep.engine.backends.protocol",
    "DenoiserSpec": "revstep.engine.spec.denoiser",
    "Encoder": "revstep.engine.spec.encoder",
    "Engine": "revstep.engine.engine",
    "GuidanceInterval": "revstep.engine.program.guidance",
    "GuidanceWeight": "revstep.engine.program.guidance",
    "Job": "revstep.engine.service.job",
    "NetworkBuffers": "revstep.engine.backends.protocol",
    "PictureEncoder": "revstep.engine.spec.encoder",
    "PreparedRun": "revstep.engine.runtime.prepared_run",
    "Preview": "revstep.engine.engine",
    "Progress": "revstep.engine.service.job",
    "Request": "revstep.engine.runtime.request",
    "RevstepError": "revstep.engine.errors",
    "Runtime": "revstep.engine.runtime.runtime",
    "Sampler": "revstep.engine.program.trace",
    "SamplerChoice": "revstep.engine.spec.sampler_choice",
    "Samples": "revstep.engine.runtime.samples",
    "SecondTime": "revstep.engine.spec.second_time",
    "Service": "revstep.engine.service.service",
    "ServiceStats": "revstep.engine.service.stats",
    "StepProgram": "revstep.engine.program.table",
    "TimeInput": "revstep.engine.spec.denoiser",
    "Timing": "revstep.engine.runtime.watch",
    "Tokenizer": "revstep.engine.spec.encoder",
    "build_program": "revstep.engine.program.table",
    "errors": "revstep.errors",
    "from_module": "revstep.engine.open.module",
    "grids": "revstep.grids",
    "initial_noise": "revstep.engine.runtime.noise",
    "load": "revstep.engine.open.bundle",
    "sampler": "revstep.engine.program.samplers",
    "samplers": "revstep.samplers",
    "schedules": "revstep.schedules",
    "slerp": "revstep.engine.runtime.noise",
}

# `moved` has the `__all__` of a star import; from one here `help(revstep)` would print every class.


def __dir__() -> list[str]:
    return [*HOMES, "__version__"]


if not TYPE_CHECKING:  # which should report a misspelt name
    __getattr__ = moved.names(__name__, HOMES)
