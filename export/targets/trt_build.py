"""An ONNX graph as a TensorRT plan: parsed, checked against the spec, built with progress.

Networks are strongly typed: the precision is that of the graph, never a flag. A static plan has
one batch; a dynamic one a profile of (min, opt, max) rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from revstep.engine.backends.trt.library import TrtLibrary, calling, cause_of
from revstep.engine.errors import Cancelled, CompileError
from revstep.engine.message import Argument
from revstep.export.progress import Progress
from revstep.export.targets.monitor import BuildMonitor
from revstep.export.targets.options import SM, BuildOptions, Profile, compute_capability
from revstep.export.targets.trt_source import PlanSource

log = logging.getLogger("revstep")

TURING = "sm_75"  # not among TensorRT-RTX's default targets, and without fp32 matrix products


def gpu_targets(library: TrtLibrary, gpus: Sequence[str] = ()) -> tuple[str, ...]:
    """TensorRT-RTX's GPUs, as ``sm_89``: the requested ones, or all that it knows. TensorRT: none.

    Raises:
        ValueError: Not written as ``sm_<number>``.
        CompileError: TensorRT-RTX has no such target.
    """
    if not library.rtx:
        return ()
    known = tuple(
        f"sm_{name[2:]}" for name in library.trt.ComputeCapability.__members__ if SM.fullmatch(name)
    )
    found = []
    for gpu in gpus:
        name = f"sm_{compute_capability(gpu)}"
        if name not in known:
            raise CompileError(
                f"tensorrt_rtx {library.version} can't build for {name}: it is for GeForce and "
                f"RTX GPUs and has targets for {', '.join(known)} only. On a data-centre GPU "
                "such as sm_90 (Hopper) or sm_100, compile there with --target tensorrt, or "
                "load with ",
                *(Argument("backend", "onnxruntime"), " and ", Argument("device", "cuda")),
            )
        found.append(name)
    return tuple(dict.fromkeys(found)) or tuple(name for name in known if name != TURING)


def build_plan(
    source: PlanSource,
    library: TrtLibrary,
    *,
    options: BuildOptions | None = None,
    timing_cache: bytes | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> tuple[bytes, bytes | None]:
    """Builds the plan of a graph.

    ``timing_cache`` is TensorRT's: what an earlier build returned; b"" starts one; None does
    without. ``options``, ``progress`` and ``cancelled`` are those of ``compile_bundle``.

    Returns:
        The plan, and the timing cache (None without one).

    Raises:
        CompileError: TensorRT refuses the graph or the options, or fails.
        Cancelled: ``cancelled`` gave True. (A KeyboardInterrupt stops a build too, and is raised.)
    """
    options, graph, profile = options or BuildOptions(), source.graph, source.profile
    targets = gpu_targets(library, options.gpus)
    since = library.lines.mark()
    try:
        with calling():
            builder = library.trt.Builder(library.logger)
    except (TypeError, RuntimeError) as error:  # TensorRT without a driver: no builder is made
        raise _failed(library, graph, since, str(error)) from error
    network, _parser = _parsed(source, library, builder, since)
    config = builder.create_builder_config()
    config.clear_flag(library.trt.BuilderFlag.TF32)  # it rounds float32 products, past their bound
    if options.memory_limit is not None:
        config.set_memory_pool_limit(library.trt.MemoryPoolType.WORKSPACE, options.memory_limit)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if library.rtx and options.gpus:
        config.num_compute_capabilities = len(targets)
        for index, name in enumerate(targets):
            capability = getattr(library.trt.ComputeCapability, name.upper().replace("_", ""))
            if not config.set_compute_capability(capability, index):
                raise _failed(library, graph, since, f"the target {name} is refused")
    _set_rows(builder, config, network, profile, library)
    cached = timing_cache is not None and not library.rtx
    if cached and not config.set_timing_cache(config.create_timing_cache(timing_cache), False):
        log.warning("TensorRT refuses the timing cache (of another GPU or version): a new one")
        if not config.set_timing_cache(config.create_timing_cache(b""), False):
            raise _failed(library, graph, since, "a new timing cache is refused")
    monitor = BuildMonitor(progress, cancelled)
    config.progress_monitor = monitor.interface(library.trt)
    since = library.lines.mark()
    with monitor.interruptible():
        plan = builder.build_serialized_network(network, config)
    monitor.reraise()
    if plan is None:
        if monitor.stopped:
            raise Cancelled(f"the build of {graph.name} for {library.name} was cancelled")
        raise _failed(library, graph, since)
    timings = config.get_timing_cache() if cached else None
    return bytes(plan), bytes(timings.serialize()) if timings is not None else None


def _parsed(source: PlanSource, library: TrtLibrary, builder: Any, since: int) -> tuple[Any, Any]:
    """The graph as a network, and the parser, which must live as long."""
    graph = source.graph
    flag = library.trt.NetworkDefinitionCreationFlag
    flags = 1 << int(flag.STRONGLY_TYPED)
    if "EXPLICIT_BATCH" in flag.__members__:  # 10.x
        flags |= 1 << int(flag.EXPLICIT_BATCH)
    network = builder.create_network(flags)
    parser = library.trt.OnnxParser(network, library.logger)
    if not parser.parse_from_file(str(graph)):
        parser_errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = "; ".join(parser_error.desc() for parser_error in parser_errors)
        raise _failed(library, graph, since, reasons or "it can't be parsed")
    if network.num_outputs == 0:  # what is no ONNX at all parses as an empty network, with True
        raise CompileError(
            f"{graph} holds no network that {library.name} can read; export the bundle again"
        )
    _check_signature(source, network)
    return network, parser


def _check_signature(source: PlanSource, network: Any) -> None:
    graph, wanted = source.graph, source.inputs
    found = {i.name: tuple(i.shape) for i in _inputs(network)}
    if set(found) != set(wanted):
        raise CompileError(
            f"{graph.name} has the inputs {', '.join(found)}; its spec names {', '.join(wanted)}: "
            "export the bundle again"
        )
    for name, shape in wanted.items():
        if found[name] not in [(n, *shape) for n in source.rows]:
            raise CompileError(
                f"{graph.name}: input {name!r} is {found[name]}; the spec says (rows, "
                f"{', '.join(map(str, shape))}) with any number of rows: export the bundle again"
            )
    if network.num_outputs != source.outputs:
        raise CompileError(
            f"{graph.name} has {network.num_outputs} outputs; {source.what} has {source.outputs}: "
            "export the bundle again"
        )


def _inputs(network: Any) -> list[Any]:
    return [network.get_input(i) for i in range(network.num_inputs)]


def _set_rows(
    builder: Any, config: Any, network: Any, profile: Profile, library: TrtLibrary
) -> None:
    """Fixes the batch of a static plan in the network itself; a dynamic one gets a profile."""
    optimization_profile = builder.create_optimization_profile()
    for network_input in _inputs(network):
        row = tuple(network_input.shape)[1:]
        if profile.static:
            network_input.shape = (profile.max, *row)
            continue
        shapes = ((rows, *row) for rows in (profile.min, profile.opt, profile.max))
        optimization_profile.set_shape(network_input.name, *shapes)
    if not profile.static and config.add_optimization_profile(optimization_profile) < 0:
        raise CompileError(f"TensorRT refuses the batch {profile}: {library.lines.text()}")
    if profile.static and network.get_input(0).shape[0] != profile.max:
        raise CompileError(f"TensorRT refuses the fixed batch {profile}: {library.lines.text()}")


def _failed(library: TrtLibrary, graph: Path, since: int, what: str = "") -> CompileError:
    cause = cause_of(f"{what} {library.lines.text(since)}")
    known = f": {cause.text}" if cause.name in ("driver", "limit", "memory") else ""
    said = " | ".join(part for part in (what, library.lines.text(since)) if part) or "nothing"
    return CompileError(
        f"{library.name} {library.version} can't build {graph.name}{known}; it says: {said}"
    )
