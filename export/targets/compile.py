"""``compile_bundle``: a bundle's graph made ready for one runtime, checked before it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, overload

from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.checks import check_one_of
from revstep.engine.errors import ArgumentError
from revstep.engine.message import Argument, Message
from revstep.export.parity.bounds import Bounds, resolve_bounds
from revstep.export.progress import Progress
from revstep.export.targets import kernels, onnxruntime, trt_compile
from revstep.export.targets.cpu import target as cpu
from revstep.export.targets.options import BuildOptions, Profile
from revstep.export.targets.target import CompileArguments, Made, Target

TARGETS: dict[str, Target] = {  # another target is a file with its TARGET, and a word here
    target.name: target
    for target in (onnxruntime.TARGET, cpu.TARGET, *trt_compile.TARGETS, kernels.TARGET)
}


@overload
def compile_bundle(  # type: ignore[overload-overlap]  # "cpu" is a text as others are
    path: str | Path,
    *,
    target: Literal["cpu"],
    precision: str = ...,
    bounds: Bounds | Mapping[str, float] | None = ...,
    threads: int | None = ...,
    batch: int | Sequence[int] | None = ...,
    seconds: float | None = ...,
    progress: Progress | None = ...,
    cancelled: Callable[[], bool] | None = ...,
) -> tuple[CompiledEntry, ...]: ...


@overload
def compile_bundle(
    path: str | Path,
    *,
    target: str = ...,
    precision: str = ...,
    bounds: Bounds | Mapping[str, float] | None = ...,
    threads: int | None = ...,
    batch: int | Profile | None = ...,
    options: BuildOptions | None = ...,
    progress: Progress | None = ...,
    cancelled: Callable[[], bool] | None = ...,
) -> CompiledEntry: ...


def compile_bundle(
    path: str | Path,
    *,
    target: str = "onnxruntime",
    precision: str = "fp32",
    bounds: Bounds | Mapping[str, float] | None = None,
    threads: int | None = None,
    batch: int | Profile | Sequence[int] | None = None,
    seconds: float | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CompiledEntry | tuple[CompiledEntry, ...]:
    """Compiles a bundle for a runtime and checks it against the bundle's PyTorch reference.

    A TensorRT plan that this machine can't run (TensorRT-RTX builds without a GPU) is recorded
    as ``not checked on this machine``. One that is there already is not built again. Each network
    beside the denoiser gets a plan too, of up to 8 rows (``Bundle.compiled_parts``).

    The target ``cpu`` tries ONNX Runtime and OpenVINO where they are installed, with and without
    rewrites of the graph, with 1 to all threads, each in a process of its own; it keeps the fastest
    of those that pass the parity check for each number of rows, and ``load`` runs them. Of those as
    fast the simplest counts: fewer rewrites, ONNX Runtime, fp32, fewer threads. Encoders, picture
    encoder and decoder are measured too, a row each, as they were exported and with all threads.

    Args:
        path: The bundle's directory.
        target: ``onnxruntime``, ``cpu``, ``tensorrt`` (for the GPU of this machine) or
            ``tensorrt_rtx``.
        precision: Of the graph to compile: ``fp32``, ``fp16``, ``bf16``. ``cpu``: ``fp32``;
            ``auto`` measures bf16 too, where the processor has it, judged by the whole run; or
            ``bf16``, taken whether it is faster or not.
        bounds: Parity bounds in place of the precision's: ``forward`` and ``ddim20``.
        threads: Threads inside an operator. ONNX Runtime: for the check; ``cpu``: the one number
            to try.
        batch: TensorRT: the rows of a static plan (default: 1, or the spec's fewest), or a
            ``Profile(min, opt, max)`` for a dynamic one. ``cpu``: one or several numbers of rows to
            measure (default: 1 and 16, within the spec's).
        seconds: ``cpu``: seconds of timing (default: 30), a quarter of it for the networks beside
            the denoiser, if there are any; opening and checking comes on top.
        options: TensorRT: GPUs, memory limit, optimisation level.
        progress: Called with (description, done, total).
        cancelled: TensorRT, ``cpu``: polled meanwhile; True stops it.

    Returns:
        The entry that the manifest now lists, in place of an older one of its target, precision,
        device and batch. ``cpu``: those of the winners, by rows, in place of earlier ones, then
        those of the networks beside the denoiser (``CompiledEntry.part``).

    Raises:
        ValueError: An unknown target, precision or bound; rows outside the spec's; an option that
            the target doesn't take.
        BundleError: The bundle is damaged, or has no graph of this precision.
        BackendError: The runtime is missing or refuses the graph.
        CompileError: The runtime can't run this precision or graph, ``cpu``'s checks leave nothing,
            or the manifest can't be written.
        ParityError: NaN, or an error above its bound.
        Cancelled: ``cancelled`` gave True. In every case the bundle is unchanged.
    """
    of_graphs = [known.name for known in TARGETS.values() if "precision" in known.takes]
    check_one_of(target, "target", of_graphs)
    arguments = CompileArguments(
        path=Path(path), precision=precision, bounds=bounds, threads=threads, batch=batch,
        seconds=seconds, options=options or BuildOptions(), progress=progress, cancelled=cancelled,
    )  # fmt: skip
    made = compile_target(target, arguments)
    assert isinstance(made, CompiledEntry | tuple)
    return made


def compile_target(name: str, arguments: CompileArguments) -> Made:
    """Compiles a bundle for any of ``TARGETS``; raises as ``compile_bundle``."""
    check_taken(arguments.changed, [name])
    check_precision(arguments.precision, name)
    resolve_bounds("fp32", arguments.bounds)
    return TARGETS[name].compile(arguments)


def check_precision(precision: str, name: str) -> None:
    """Refuses a precision that a target doesn't have.

    Raises:
        ValueError: It names those that it has, or those that have it.
    """
    target = TARGETS[name]
    if reason := target.not_offered.get(precision):
        raise ArgumentError(Message(Argument("precision", precision), f": {reason}"), "precision")
    able = [t for t in TARGETS.values() if "precision" in t.takes]
    others = [t.name for t in able if precision in t.precisions]
    more = f" ({precision} is for {_listed(others)})" if others else ""
    check_one_of(precision, "precision", target.precisions, more)


def check_taken(arguments: Iterable[str], targets: Sequence[str]) -> None:
    """Refuses unknown targets, and arguments that none of the targets takes.

    Raises:
        ValueError: Naming the targets that there are, or those that take the argument.
    """
    for name in targets:
        check_one_of(name, "target", TARGETS)
    for argument in arguments:
        if not any(argument in TARGETS[name].takes for name in targets):
            takers = [target.name for target in TARGETS.values() if argument in target.takes]
            text = (
                f" is for {_listed(takers)}, not for {', '.join(targets)}: leave "
                "it out, or add such a target"
            )
            if argument == "gpus" and "tensorrt" in targets:
                text += " (TensorRT builds on the GPU that will run the plan: compile there)"
            raise ArgumentError(Message(Argument(argument), text), argument)


def _listed(names: Sequence[str]) -> str:
    """``the targets onnxruntime, cpu and tensorrt``."""
    listed = " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])
    return f"the {'target' if len(names) == 1 else 'targets'} {listed}"
