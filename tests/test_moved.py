"""What moved keeps its old name for this version, with a DeprecationWarning that names the new."""

import importlib
import importlib.util
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import revstep
import revstep.export
from revstep import moved

ROOT = Path(__file__).parents[1]
REVSTEP = """
    AYS_SD15 AYS_SDXL AYS_SVD DDIM DDPM SAMPLERS SPACINGS BackendError BetaGrid Bundle BundleError
    Cancelled CapacityError CompileError Condition ContinuousVPSchedule DPMSolverPP2M Decoder
    Denoiser DenoiserSpec DeviceMemoryError Engine Estimate ExponentialGrid ExportError
    FlowSchedule GuidanceInterval GuidanceWeight KarrasGrid LeadingGrid LinspaceGrid LogSNRGrid
    NetworkBuffers NonFiniteError ParityError Point Preview ProgramError RePaint RevstepError Run
    Samples Schedule ShiftedGrid Spacing StepProgram TimeGrid TimeInput TrailingGrid VESchedule
    VPSchedule Vector build_program flow_shift from_module initial_noise load make_sampler sampler
    samplers slerp
"""  # the names of both old façades
OLD = """
    check.Check commands.doctor.doctor doctor.Check engine.affine.NotAVector
    engine.backends.eval_form.EvalForm engine.backends.index_hint.index_hint
    engine.backends.module_call.CallError engine.backends.module_cast.cast_dtype
    engine.backends.module_output.OutputError engine.backends.ort_cuda.OrtCudaDenoiser
    engine.backends.ort_session.CpuSession engine.backends.reduced_module.ReducedModule
    engine.backends.sync_watch.sync_reason engine.backends.torch_module.TorchModuleDenoiser
    engine.backends.torch_threads.check_threads engine.backends.trt_denoiser.RowBuffers
    engine.backends.trt_engine.PlanFile engine.backends.trt_library.Cause
    engine.backends.weights_place.WeightsPlace engine.batching.run_batches engine.bundle.Bundle
    engine.cores.allowed_cpus engine.cuda.arena.ProgramArena engine.cuda.buckets.bucket_for
    engine.cuda.buffers.DeviceNetworkBuffers engine.cuda.device.Mark
    engine.cuda.lane.DeviceDenoiser engine.cuda.runner.CudaRunner
    engine.cuda.step_kernels.PreparedStep engine.decoder.LatentDecoder engine.denoiser.Denoiser
    engine.diffusers_grid.Stepping engine.forks.Renewed engine.frozen_array.FrozenArray
    engine.graphs.CaptureRefused engine.grid.Point engine.guidance_weight.GuidanceInterval
    engine.inpainting.Known engine.interpolation.initial_noise engine.inversion.DDIMInversion
    engine.kernel_files.KernelFiles engine.live.from_module engine.load_call.LoadCall
    engine.loading.load engine.loop.Timing engine.machine.Gpu engine.manifest.CompiledEntry
    engine.observer.Preview engine.plans.GpuModel engine.prediction.PREDICTIONS
    engine.program.StepProgram engine.program_warnings.error_gains engine.reductions.REDUCTIONS
    engine.request.Request engine.runner.CpuRunner engine.samplers.SAMPLERS
    engine.samplers.base.BaseSampler engine.samplers.consistency.Consistency
    engine.samplers.ddim.DDIM engine.samplers.ddpm.DDPM engine.samplers.dpm2.DPM2Ancestral
    engine.samplers.dpm_solver.DPMSolverPP1S engine.samplers.euler.Euler
    engine.samplers.flow.FlowEuler engine.samplers.heun.Heun engine.samplers.langevin.Langevin
    engine.samplers.linear_multistep.IPNDM
    engine.samplers.repaint.RePaint engine.samplers.unipc.UniPC engine.samples.Samples
    engine.schedule.ContinuousVPSchedule engine.schedule.base.Float64
    engine.schedule.continuous.ContinuousVPSchedule
    engine.schedule.float32_levels.float32_levels engine.schedule.flow.FlowSchedule
    engine.schedule.ve.VESchedule engine.schedule.vp.NearlyZeroSNR engine.seeds.sample_seeds
    engine.slots.Storage engine.spacing.BetaGrid engine.spacing.base.Float64
    engine.spacing.beta_quantile.beta_quantile engine.spacing.given.TimeGrid
    engine.spacing.index_grids.IndexGrid engine.spacing.names.SPACINGS
    engine.spacing.noise_grids.BetaGrid engine.spacing.shifted.ShiftedGrid
    engine.spec.DenoiserSpec engine.spec_checks.SHAPE engine.spec_parts.Condition
    engine.strength.steps_run engine.telemetry.Switch engine.trace.Estimate
    engine.user_cache.cache_dir engine.x0_trace.X0Trace
    export.attention.masks_as_given export.batch_range.FREE_BATCH export.bounds.Bounds
    export.build_monitor.BuildMonitor export.checks.ROW_TOLERANCE export.compile.TARGETS
    export.compile_jobs.CompileJob export.decoder_check.check_decoder
    export.diffusers_import.export_diffusers export.diffusers_sampler.KEYS
    export.diffusers_schedule.Sampling export.diffusers_spacing.flow_grid
    export.edge_rows.edge_rows export.exact_constants.exact_constants
    export.example_conditions.example_condition export.export_failure.failure
    export.export_parts.Job export.factory.load_factory export.given.DtypeWatch
    export.graph.OPSETS export.graph_check.check_decoder_runs
    export.graph_passes.drop_settled_choices export.host_denoiser.HostDenoiser
    export.index_limits.check_limits export.index_tables.Table
    export.kernel_compile.compile_kernels export.leftovers.beside
    export.module_export.check_arguments export.module_line.causes export.parity.Bounds
    export.precision.Reduced export.precision_nodes.Kept export.precision_ranges.RangeDenoiser
    export.precision_types.emulate export.record.finished export.reference.Reference
    export.trt_build.BuildOptions export.trt_compile.NOT_CHECKED export.unet_module.UNetModule
    export.unsupported.check_surroundings export.writer.described gpu_checks.blocked
    kernels.aot.Variant kernels.device_buffers.DeviceBuffers kernels.launch.CubinStep
    kernels.sampler_step.TritonStep kernels.step_kernels.begin_step_kernel
    kernels.tile_access.first kernels.tile_noise.box_muller
"""  # one name of every module that moved


def _warned(caught):
    return [str(w.message) for w in caught if issubclass(w.category, DeprecationWarning)]


@pytest.mark.parametrize("facade", ["revstep", "revstep.engine"])
def test_the_old_facades_names_are_all_there(facade):
    module = importlib.import_module(facade)
    more = {"revstep": "CompiledEntry __version__", "revstep.engine": "Timing images_from"}[facade]
    for name in (REVSTEP + more).split():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            value = getattr(module, name)
        if caught:
            (text,) = _warned(caught)
            old, new = text.split(" is now ")
            assert old == f"{facade}.{name}"
            place, _, there = new.rpartition(".")
            assert getattr(importlib.import_module(place), there) is value
        else:
            assert name in dir(module)


@pytest.mark.parametrize("facade", ["revstep", "revstep.engine"])
def test_a_star_import_takes_the_old_facades_names(facade):
    scope = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(f"from {facade} import *", scope)
    assert set(REVSTEP.split()) <= set(scope)
    assert not {"HOMES", "TYPE_CHECKING", "moved"} & set(scope)
    (text,) = _warned(caught)
    assert text.startswith(f"from {facade} import * also takes names that are now in revstep.samp")
    with pytest.warns(DeprecationWarning, match="KarrasGrid is now revstep.grids.KarrasGrid"):
        exec(f"import {facade} as facade; facade.KarrasGrid", {})


def test_every_module_that_moved_is_there_by_its_old_name():
    for old in OLD.split():
        module, _, name = f"revstep.{old}".rpartition(".")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                value = getattr(importlib.import_module(module), name)
            except ModuleNotFoundError as error:  # torch or another extra
                if error.name.startswith("revstep"):
                    raise
                continue
        (text,) = [t for t in _warned(caught) if t.startswith("revstep.")]
        place, _, there = text.removeprefix(f"{module}.{name} is now ").rpartition(".")
        assert getattr(importlib.import_module(place), there) is value, old


def test_the_tables_lead_to_what_exists():
    for old, new in moved.MODULES.items():
        assert importlib.util.find_spec(f"revstep.{new}") is not None, old
    for old, new in moved.NAMES.items():
        place = new.rpartition(".")[0]
        assert importlib.util.find_spec(f"revstep.{place}") is not None, old


@pytest.mark.parametrize(
    "statement",
    [
        "from revstep import DDIM",
        "revstep.DDIM",
        "from revstep.engine.samplers import DDIM",
        "import revstep.engine.samplers.ddim as old; old.DDIM",
        "from revstep.engine.samplers.ddim import DDIM",
    ],
)
def test_the_warning_comes_once_from_the_users_line(statement):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(statement, "users.py", "exec"), {"revstep": revstep})
    (warning,) = caught
    assert warning.category is DeprecationWarning
    assert warning.filename == "users.py"
    assert str(warning.message).endswith(".DDIM is now revstep.samplers.DDIM")


def test_a_pickle_with_old_paths_loads():
    spec = revstep.Condition(name="goal", shape=(2,), null=0.0)
    new = pickle.dumps(spec, 0).decode()
    assert "revstep.engine.spec.parts" in new
    for old in ("revstep.engine.spec_parts", "revstep.engine.spec", "revstep.engine", "revstep"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert pickle.loads(new.replace("revstep.engine.spec.parts", old).encode()) == spec
        assert len(_warned(caught)) == (old != "revstep")


@pytest.mark.parametrize(
    "statement",
    [
        "from revstep import Nonsense",
        "import revstep.nonsense",
        "import revstep.engine.spec.nonsense",
        "from revstep.engine.spec import nonsense",
        "from revstep.engine.samplers import nonsense",
        "import revstep.engine.samplers.nonsense",
    ],
)
def test_what_never_was_there_is_not_there(statement):
    with pytest.raises(ImportError, match=r"nonsense|Nonsense"):
        exec(statement)


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("bench.proofs", "python -m proofs"),
        ("bench.step", "python -m suites.step.measure"),
        ("bench.gpu_suite", "python suites/gpu_suite.py"),
    ],
)
def test_a_command_that_left_the_package_names_its_successor(module, command):
    result = subprocess.run(
        [sys.executable, "-m", f"revstep.{module}"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"revstep.{module} left the package; in a checkout, run: {command}" in line


def test_our_own_modules_use_no_old_name():
    code = f"""
import importlib, pkgutil, warnings
warnings.filterwarnings("error", r"revstep\\.", DeprecationWarning)
import revstep, revstep.export
for found in pkgutil.walk_packages(revstep.__path__, "revstep."):
    if not found.name.endswith("__main__"):
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if error.name.startswith("revstep"):
                raise
assert not any(name in __import__("sys").modules for name in {list(moved.MODULES)!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize("command", sorted(set(moved.LEFT.values())))
def test_the_commands_of_what_left_are_files_of_the_checkout(command):
    *_, what = command.split()
    path = ROOT / (what if what.endswith(".py") else what.replace(".", "/"))
    assert path.is_file() or path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()
