"""What is public: the names of each namespace, and a public home for every type in a signature."""

import ast
import inspect
import pydoc
import sys
import typing

import pytest

import revstep
import revstep.compat
import revstep.export

NAMES = {
    "revstep": """
        Bundle CompiledEntry Condition CpuChoice CudaOptions Decoder Denoiser DenoiserSpec Encoder
        Engine GuidanceInterval GuidanceWeight Job NetworkBuffers PictureEncoder PreparedRun Preview
        Progress Request RevstepError Runtime Sampler SamplerChoice Samples SecondTime Service
        ServiceStats StepProgram TimeInput Timing Tokenizer __version__ build_program errors
        from_module grids initial_noise load sampler samplers schedules slerp
    """,
    "revstep.samplers": """
        BaseSampler CogVideoXDPM Consistency DDIM DDPM DEIS DPM2 DPM2Ancestral DPMSolverPP1S
        DPMSolverPP1SSDE DPMSolverPP2M DPMSolverPP2MSDE DPMSolverPP2S DPMSolverPP2SSDE DPMSolverPP3M
        DPMSolverPP3MSDE EDM Estimate Euler EulerAncestral FlowEuler FlowEulerAncestral FlowHeun
        FlowMap FunctionSampler Heun IPNDM LCM LMS Langevin PNDM Point PredictorCorrector RePaint
        ReverseSDE Run SAMPLERS SASolver Sampler TCD UniPC Vector lambda_point make_sampler sampler
    """,
    "revstep.grids": """
        AYS_SD15 AYS_SDXL AYS_SVD BetaGrid ExponentialGrid GRIDS Grid IndexGrid KarrasGrid
        LeadingGrid LinspaceGrid LogSNRGrid LuGrid NoiseGrid ShiftedGrid TimeGrid TrailingGrid
        flow_shift
    """,
    "revstep.schedules": """
        ContinuousVPSchedule FlowSchedule NearlyZeroSNR Schedule TrigFlowSchedule VESchedule
        VPSchedule
    """,
    "revstep.errors": """
        ArgumentError ArgumentTypeError BackendError BundleError Cancelled CapacityError
        CompileError DeadlineError DeviceMemoryError ExportError NonFiniteError ParityError
        ProgramError QueueFullError RevstepError ServiceClosedError
    """,
    "revstep.export": """
        BOUNDS Bounds BuildOptions Checkpoint Form KernelFiles OPSETS Profile Sampling SpecScore
        Stages
        check_parity compile_bundle compile_kernels export_diffusers export_module export_onnx
        load_diffusers load_diffusers_checkpoint load_factory make_parity read_scheduler
        reversed_flow score_spec suggest_specs
    """,
    "revstep.compat": "RevstepScheduler",
}
NO_HOME = {  # types in signatures that no user writes
    "Argument": "inside the text of an error",
    "Batch": "inside a Runtime",
    "Encode": "inside a PreparedRun",
    "Encoders": "inside an Engine",
    "CudaKeywords": "deprecated arguments",
    "Family": "inside a RevstepScheduler",
    "Hold": "inside a Runtime",
    "JobTiming": "what a Job gives",
    "LanePool": "inside a Runtime",
    "LatentEncoder": "inside an Engine",
    "Message": "the text of an error",
    "OneLane": "inside a Runtime",
    "ProgressStream": "what Service.stream gives",
    "RequestArguments": "of a Request, as keywords",
    "Run": "inside a RevstepScheduler; not samplers.Run",
    "Runs": "inside a RevstepScheduler",
    "Stepping": "of samplers' compat, which takes a name",
    "Submission": "of Service.submit, as keywords",
    "Symbol": "inside a Vector",
    "Tape": "inside a Vector",
    "Times": "inside ServiceStats",
    "Watch": "what sample gives a PreparedRun",
    "Watcher": "inside a Runtime",
    "X0Trace": "inside a Watch",
}
HELP_LINES = 150


@pytest.mark.parametrize("name", NAMES)
def test_a_namespace_has_these_names_and_no_others(name):
    assert sorted(dir(sys.modules[name])) == sorted(NAMES[name].split())


@pytest.mark.parametrize("name", ["samplers", "grids", "schedules", "errors", "export"])
def test_a_namespace_is_a_module_that_can_be_starred(name):
    scope = {}
    if name == "export":
        pytest.importorskip("torch")
        pytest.importorskip("onnx")
    exec(f"from revstep.{name} import *", scope)
    assert set(NAMES[f"revstep.{name}"].split()) <= set(scope)


def test_help_is_a_page():
    text = pydoc.plain(pydoc.render_doc(revstep))
    assert text.count("\n") < HELP_LINES
    listed = set(text.replace(",", " ").split())
    hidden = {"NetworkBuffers", "__version__", "errors", "grids", "samplers", "schedules"}
    assert set(dir(revstep)) - hidden <= listed | {"Engine"}


def _checking_imports(module):
    """What the module imports for type checkers alone."""
    found = {}
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module.__name__, "exec"), found)
    found.pop("__builtins__", None)
    return found


@pytest.mark.parametrize("module", [revstep, revstep.export])
def test_lazy_names_are_what_type_checkers_see(module):
    if module is revstep.export:
        pytest.importorskip("torch")
        pytest.importorskip("onnx")
    checked = _checking_imports(module)
    assert set(checked) == set(module.HOMES)
    for name, value in checked.items():
        assert getattr(module, name) is value


def test_what_is_of_torch_comes_with_torch(monkeypatch):
    pytest.importorskip("torch")
    assert revstep.compat.RevstepScheduler.__module__ == "revstep.export.compat.scheduler"
    with pytest.raises(AttributeError, match="no attribute 'Scheduler'"):
        revstep.compat.Scheduler  # noqa: B018
    monkeypatch.delitem(sys.modules, "revstep.export.compat.scheduler")
    monkeypatch.delattr(sys.modules["revstep.export.compat"], "scheduler")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"revstep.compat needs torch: pip install"):
        revstep.compat.RevstepScheduler  # noqa: B018


def _parts(value):
    """A function; or a class and its public methods and properties, the inherited ones too."""
    yield value
    for owner in inspect.getmro(value) if inspect.isclass(value) else ():
        for name, part in vars(owner).items():
            part = getattr(part, "fget", None) or getattr(part, "__func__", part)
            if inspect.isfunction(part) and (name[0] != "_" or name == "__init__"):
                yield part


def _types(hint):
    """All classes in a type hint."""
    if inspect.isclass(hint):
        yield hint
    inner = hint if isinstance(hint, list) else typing.get_args(hint)
    for part in inner:
        yield from _types(part)


def _hints(part):
    owners = part.__mro__ if inspect.isclass(part) else (part,)
    names = {}
    for owner in owners:
        if owner.__module__.startswith("revstep"):
            module = sys.modules[owner.__module__]
            names |= vars(module) | _checking_imports(module)
    return typing.get_type_hints(part, names, names)


def test_every_type_in_a_public_signature_has_a_public_home():
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    values = [getattr(sys.modules[name], n) for name in NAMES for n in NAMES[name].split()]
    public = [value for value in values if inspect.isclass(value)]
    homeless = {}
    for value in values:
        if inspect.isclass(value) or inspect.isfunction(value):
            for part in _parts(value):
                for argument, hint in _hints(part).items():
                    for found in _types(hint):
                        if found.__module__.startswith("revstep") and found not in public:
                            homeless[found.__name__] = f"{part.__qualname__}: {argument}"
    assert homeless.keys() == NO_HOME.keys(), homeless
