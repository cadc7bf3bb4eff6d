"""What moved: each old name still works, with a DeprecationWarning that names the new one.

Names here are without the ``revstep.`` in front. A name of the old façades, ``revstep`` and
``revstep.engine``, is found in the public namespaces and has no line.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any, cast

__all__ = ["LEFT", "MODULES", "NAMES", "names"]

MODULES = {  # a package's line is for the modules in it too
    "check": "commands.doctor.check",
    "commands.doctor": "commands.doctor.command",
    "commands.given": "commands.input_files",
    "commands.guard": "commands.errors",
    "commands.values": "commands.parse",
    "doctor": "commands.doctor.examine",
    "engine.affine": "engine.program.vector",
    "engine.backends.eval_form": "engine.backends.module.eval_form",
    "engine.backends.index_hint": "engine.backends.protocol",
    "engine.backends.module_call": "engine.backends.module.call",
    "engine.backends.module_cast": "engine.backends.module.cast",
    "engine.backends.module_output": "engine.backends.module.output",
    "engine.backends.ort_cuda": "engine.backends.onnx_cuda",
    "engine.backends.ort_session": "engine.backends.onnx_cpu",
    "engine.backends.reduced_module": "engine.backends.module.reduced",
    "engine.backends.sync_watch": "engine.backends.module.sync_watch",
    "engine.backends.torch_module": "engine.backends.module.denoiser",
    "engine.backends.torch_threads": "engine.backends.module.threads",
    "engine.backends.trt_denoiser": "engine.backends.trt.denoiser",
    "engine.backends.trt_engine": "engine.backends.trt.plan",
    "engine.backends.trt_library": "engine.backends.trt.library",
    "engine.backends.weights_place": "engine.backends.module.weights_place",
    "engine.batching": "engine.runtime.batch",
    "engine.bundle": "engine.bundle.reader",
    "engine.cores": "engine.system.cores",
    "engine.cuda": "engine.runtime",
    "engine.cuda.buffers": "engine.runtime.slots",
    "engine.cuda.device": "engine.devices.cuda",
    "engine.cuda.runner": "engine.runtime.runtime",
    "engine.cuda.step_kernels": "engine.devices.gpu_kernels",
    "engine.decoder": "engine.parts.decoder",
    "engine.denoiser": "engine.backends.protocol",
    "engine.diffusers_grid": "engine.program.diffusers_stepping",
    "engine.forks": "engine.system.forks",
    "engine.frozen_array": "engine.spec.frozen_array",
    "engine.graphs": "engine.devices.graphs",
    "engine.grid": "engine.program.points",
    "engine.guidance_weight": "engine.program.guidance",
    "engine.inpainting": "engine.runtime.inpainting",
    "engine.interpolation": "engine.runtime.noise",
    "engine.inversion": "engine.program.inversion",
    "engine.kernel_files": "engine.bundle.kernels",
    "engine.live": "engine.open.module",
    "engine.load_call": "engine.open.bundle",
    "engine.loading": "engine.open.bundle",
    "engine.loop": "engine.runtime.loop",
    "engine.machine": "engine.system.machine",
    "engine.manifest": "engine.bundle.manifest",
    "engine.observer": "engine.runtime.watch",
    "engine.plans": "engine.backends.trt.choice",
    "engine.prediction": "engine.spec.prediction",
    "engine.program": "engine.program.table",
    "engine.program_warnings": "engine.program.warn",
    "engine.reductions": "engine.program.reductions",
    "engine.request": "engine.runtime.request",
    "engine.runner": "engine.runtime.runtime",
    "engine.samplers": "engine.program.samplers",
    "engine.samples": "engine.runtime.samples",
    "engine.schedule": "engine.spec.schedule",
    "engine.seeds": "engine.runtime.request",
    "engine.slots": "engine.program.history",
    "engine.spacing": "engine.spec.grids",
    "engine.spec": "engine.spec.denoiser",
    "engine.spec_checks": "engine.spec.fields",
    "engine.spec_parts": "engine.spec.parts",
    "engine.strength": "engine.program.steps",
    "engine.telemetry": "engine.system.telemetry",
    "engine.trace": "engine.program.trace",
    "engine.user_cache": "engine.system.user_cache",
    "engine.x0_trace": "engine.runtime.watch",
    "export.attention": "export.graph.attention",
    "export.batch_range": "export.graph.batch_range",
    "export.bounds": "export.parity.bounds",
    "export.build_monitor": "export.targets.monitor",
    "export.checks": "export.module.checks",
    "export.compile": "export.targets.compile",
    "export.compile_jobs": "export.targets.jobs",
    "export.decoder_check": "export.module.checks",
    "export.diffusers_import": "export.sources.diffusers.folder",
    "export.diffusers_sampler": "export.sources.diffusers_sampler",
    "export.diffusers_schedule": "export.sources.diffusers_schedule",
    "export.diffusers_spacing": "export.sources.diffusers_grid",
    "export.edge_rows": "export.parity.edge_rows",
    "export.exact_constants": "export.graph.exact_constants",
    "export.example_conditions": "export.module.examples",
    "export.export_failure": "export.graph.failure",
    "export.export_parts": "export.sources.parts",
    "export.factory": "export.sources.factory",
    "export.given": "export.module.form",
    "export.graph": "export.graph.exporter",
    "export.graph_check": "export.graph.check",
    "export.graph_passes": "export.graph.passes",
    "export.host_denoiser": "export.parity.host_denoiser",
    "export.index_limits": "export.graph.index_limits",
    "export.index_tables": "export.graph.index_tables",
    "export.kernel_compile": "export.targets.kernels",
    "export.leftovers": "engine.bundle.leftovers",
    "export.module_export": "export.sources.module",
    "export.module_line": "export.module.line",
    "export.parity": "export.parity.check",
    "export.precision": "export.precision.convert",
    "export.precision_nodes": "export.precision.nodes",
    "export.precision_ranges": "export.precision.ranges",
    "export.precision_types": "export.precision.types",
    "export.record": "engine.bundle.record",
    "export.reference": "export.parity.reference",
    "export.sources.diffusers_folder": "export.sources.diffusers.folder",
    "export.sources.unet_module": "export.sources.diffusers.modules",
    "export.trt_build": "export.targets.trt_build",
    "export.trt_compile": "export.targets.trt_compile",
    "export.unet_module": "export.sources.diffusers.modules",
    "export.unsupported": "export.module.unsupported",
    "export.writer": "engine.bundle.writer",
    "gpu_checks": "commands.doctor.gpu",
    "kernels.aot": "kernels.gpu.aot",
    "kernels.device_buffers": "kernels.buffers",
    "kernels.launch": "kernels.gpu.cubin",
    "kernels.sampler_step": "kernels.gpu.launch",
    "kernels.step_kernels": "kernels.gpu.step",
    "kernels.tile_access": "kernels.gpu.tiles",
    "kernels.tile_noise": "kernels.gpu.noise",
}

NAMES = {  # those that aren't in the module that took their old module's place
    "commands.given.read_given": "commands.input_files.read_input",
    "commands.guard.guarded": "commands.errors.report_errors",
    "commands.values.class_condition": "commands.conditions.class_condition",
    "commands.values.condition_values": "commands.conditions.condition_values",
    "commands.values.load_array": "commands.input_files.load_array",
    "commands.values.split": "commands.parse.name_and_value",
    "engine.backends.trt_denoiser.RowBuffers": "engine.backends.protocol.NetworkBuffers",
    "engine.backends.trt_engine.TrtEngine": "engine.backends.trt.plan.TrtPlan",
    "engine.batching.run_batches": "engine.runtime.runtime.run_batches",
    "engine.batching.samples_a_batch": "engine.runtime.batch.samples_per_batch",
    "engine.cuda.buffers.DeviceNetworkBuffers": "engine.backends.protocol.NetworkBuffers",
    "engine.cuda.buffers.SlotBuffers": "engine.runtime.slots.Slots",
    "engine.cuda.device.Mark": "engine.devices.protocol.Mark",
    "engine.cuda.device.Queue": "engine.devices.cuda.CudaDevice",
    "engine.cuda.device.check_device": "engine.devices.choose.check_device",
    "engine.cuda.device.cuda_device": "engine.devices.choose.cuda_device",
    "engine.cuda.device.driver_gpus": "engine.devices.choose.driver_gpus",
    "engine.cuda.lane.DeviceDenoiser": "engine.backends.protocol.DeviceDenoiser",
    "engine.cuda.runner.CudaRunner": "engine.runtime.runtime.cuda_runtime",
    "engine.cuda.step_kernels.PreparedStep": "engine.devices.protocol.PreparedStep",
    "engine.cuda.step_kernels.StepKernels": "engine.devices.gpu_kernels.GpuKernels",
    "engine.graphs.CaptureRefused": "engine.devices.protocol.CaptureRefused",
    "engine.graphs.Graph": "engine.devices.protocol.Graph",
    "engine.graphs.Graphs": "engine.devices.protocol.Graphs",
    "engine.grid.DATA_COUNTS": "engine.program.warn.DATA_COUNTS",
    "engine.grid.DEFAULT_STEPS": "engine.program.steps.DEFAULT_STEPS",
    "engine.grid.check_falling": "engine.program.steps.check_falling",
    "engine.grid.final_time": "engine.program.steps.end_time",
    "engine.grid.time_grid": "engine.program.steps.steps_over",
    "engine.images_from": "engine.runtime.samples.images_from",
    "engine.loading.BACKENDS": "engine.backends.registry.NAMES",
    "engine.loop.Batch": "engine.runtime.batch.Batch",
    "engine.manifest.file_digest": "engine.bundle.layout.file_digest",
    "engine.runner.CpuRunner": "engine.runtime.runtime.host_runtime",
    "engine.runner.Runner": "engine.runtime.runtime.Runtime",
    "engine.samplers.base.warn_long_step": "engine.program.warn.warn_long_step",
    "engine.slots.SLOTS": "engine.program.history.HISTORY",
    "export.checks.example_inputs": "export.module.examples.example_inputs",
    "export.checks.other_batch": "export.module.run.other_batch",
    "export.checks.run_module": "export.module.run.run_module",
    "export.given.GivenDenoiser": "export.module.run.GivenDenoiser",
    "export.parity.finding": "export.parity.bounds.finding",
    "export.parity.forward_error": "export.parity.bounds.forward_error",
    "export.parity.forward_rows": "export.parity.runs.forward_rows",
    "export.parity.relative_error": "export.parity.bounds.relative_error",
    "export.parity.resolve_bounds": "export.parity.bounds.resolve_bounds",
    "export.parity.wider": "export.parity.bounds.wider",
    "export.trt_compile.engine_key": "export.targets.target.content_key",
    "kernels.device_buffers.DeviceBuffers": "kernels.buffers.StepBuffers",
}

RENAMED = {  # in whatever module they are
    "SPACINGS": "GRIDS",
    "Spacing": "Grid",
    "resolve_spacing": "resolve_grid",
    "spacing_from_value": "grid_from_value",
}

LEFT = {  # modules that are in no wheel any more, and the commands that they were
    "bench.bench_step": "pytest suites/questions/bench_step.py",
    "bench.gpu": "python suites/gpu_suite.py",
    "bench.gpu_suite": "python suites/gpu_suite.py",
    "bench.kernel_table": "python -m suites.step.kernel_table",
    "bench.precision": "python -m suites.precision.measure",
    "bench.precision_networks": "python -m suites.precision.measure",
    "bench.precision_table": "python -m suites.precision.table",
    "bench.proofs": "python -m proofs",
    "bench.step": "python -m suites.step.measure",
}

NOWHERE: Mapping[str, str] = {}
FACADES = ("revstep", "revstep.engine")
PUBLIC = ("", ".samplers", ".grids", ".schedules", ".errors", ".export")
MOVED_TO = "revstep.samplers, revstep.grids, revstep.schedules and revstep.errors"


def names(module: str, homes: Mapping[str, str] = NOWHERE) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that had other names once: it finds them, with a warning.

    Args:
        module: The module's full name.
        homes: The names that it has, with the modules that they are imported from when asked for;
            a module's own name is its home.
    """
    star: list[tuple[CodeType, int]] = []  # where the last `from module import *` stands

    def find(name: str) -> Any:
        if name in homes:
            home = import_module(homes[name])
            value = home if home.__name__ == f"{module}.{name}" else getattr(home, name)
            vars(sys.modules[module])[name] = value
            return value
        # `from module import name` first asks whether it must load a module of that name.
        caller = sys._getframe(1)
        loading = caller.f_code.co_filename.startswith("<frozen importlib")
        if loading or (name.startswith("__") and name != "__all__"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        here = caller.f_code, caller.f_lasti  # one instruction asks for all names of a star
        if name == "__all__" and module in FACADES and caller.f_globals.get("__name__") != "pydoc":
            star[:] = [here]
            text = f"from {module} import * also takes names that are now in {MOVED_TO}"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
            return _facade_names(module)
        if _exists(f"{module}.{name}"):
            return import_module(f"{module}.{name}")
        new, value = _found(module, name)
        if isinstance(value, ModuleType) and not value.__name__.startswith("revstep"):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")  # an import of it
        if name != "__all__" and here not in star:
            text = f"{module}.{name} is now {new}"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        return value

    return find


def _found(module: str, name: str) -> tuple[str, Any]:
    """(new full name, value) of what the module had under that name.

    Raises:
        AttributeError: It had no such name.
    """
    place, there = _new(module), RENAMED.get(name, name)
    if single := NAMES.get(f"{module}.{name}".removeprefix("revstep.")):
        place, _, there = f"revstep.{single}".rpartition(".")
    if place is not None and hasattr(new := import_module(place), there):
        value = getattr(new, there)
        for public in _publics(there):
            if getattr(public, there) is value:
                return f"{public.__name__}.{there}", value
        return f"{place}.{there}", value
    for public in _publics(there):
        return f"{public.__name__}.{there}", getattr(public, there)
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


def _facade_names(module: str) -> list[str]:
    """What ``from module import *`` takes: the public names, and those that moved from it."""
    spaces = (import_module(f"revstep{space}") for space in PUBLIC if space != ".export")
    there = {name for space in spaces for name in dir(space)}
    there |= {old for old, new in RENAMED.items() if new in there}
    return sorted(there - ({"__version__"} if module != "revstep" else set()))


def _publics(name: str) -> Iterator[ModuleType]:
    """The public namespaces that have the name."""
    spaces = (import_module(f"revstep{space}") for space in PUBLIC)
    return (space for space in spaces if name in dir(space))


def _new(module: str) -> str | None:
    """What took the module's place, by the longest line that it begins with."""
    old = module.removeprefix("revstep.")
    parts = old.split(".")
    for count in range(len(parts), 0, -1):
        if new := MODULES.get(".".join(parts[:count])):
            return ".".join(("revstep", new, *parts[count:]))
    return None


class _Finder:
    """Finds modules by their old names, where no other finder does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith("revstep."):
            return None
        for old, command in LEFT.items():
            if f"{fullname}.".startswith(f"revstep.{old}."):
                text = f"{fullname} left the package; in a checkout, run: {command}"
                raise ModuleNotFoundError(text)
        new = _new(fullname)
        if new is None or not _exists(new):
            return None
        return ModuleSpec(fullname, cast(Any, _Loader(new)), is_package=True)


class _Loader:  # not a Loader of importlib.abc, which takes milliseconds to import
    """Makes a module whose names are those of another."""

    def __init__(self, new: str) -> None:
        self.new = new

    def create_module(self, spec: ModuleSpec) -> None:
        """The import makes an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        new = import_module(self.new)
        module.__doc__ = f"Moved to ``{self.new}``."
        vars(module).update(__getattr__=names(module.__name__), __dir__=lambda: dir(new))


def _exists(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


sys.meta_path.append(_Finder())
