"""``compile_bundle``: a bundle's graph made ready for one runtime, checked before it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.kernels import KernelFiles
from revstep.engine.checks import check_one_of
from revstep.engine.errors import ArgumentError
from revstep.engine.message import Argument, Message
from revstep.engine.spec.precisions import PRECISIONS
from revstep.export.parity.bounds import Bounds, resolve_bounds
from revstep.export.progress import Progress
from revstep.export.targets import kernels, onnxruntime, trt_compile
from revstep.export.targets.options import BuildOptions, Profile
from revstep.export.targets.target import CompileArguments, Target

TARGETS: dict[str, Target] = {  # another target is a file with its TARGET, and a word here
    target.name: target for target in (onnxruntime.TARGET, *trt_compile.TARGETS, kernels.TARGET)
}


def compile_bundle(
    path: str | Path,
    *,
    target: str = "onnxruntime",
    precision: str = "fp32",
    bounds: Bounds | Mapping[str, float] | None = None,
    threads: int | None = None,
    batch: int | Profile | None = None,
    options: BuildOptions | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> CompiledEntry:
    """Compiles a bundle for a runtime and checks it against the bundle's PyTorch reference.

    A TensorRT plan that this machine can't run (TensorRT-RTX builds without a GPU) is recorded
    as ``not checked on this machine``. One that is there already is not built again.

    Args:
        path: The bundle's directory.
        target: ``onnxruntime``, ``tensorrt`` (for the GPU of this machine) or ``tensorrt_rtx``.
        precision: Of the graph to compile: ``fp32``, ``fp16``, ``bf16``.
        bounds: Parity bounds in place of the precision's: ``forward`` and ``ddim20``.
        threads: ONNX Runtime: threads inside an operator, for the check.
        batch: TensorRT: the rows of a static plan (default: 1, or the spec's fewest), or a
            ``Profile(min, opt, max)`` for a dynamic one.
        options: TensorRT: GPUs, memory limit, optimisation level.
        progress: Called with (description, done, total).
        cancelled: TensorRT: polled during the build; True stops it.

    Returns:
        The entry that the manifest now lists, in place of an older one of its target, precision,
        device and batch.

    Raises:
        ValueError: An unknown target, precision or bound; rows outside the spec's; an option that
            the target doesn't take.
        BundleError: The bundle is damaged, or has no graph of this precision.
        BackendError: The runtime is missing or refuses the graph.
        CompileError: The runtime can't run this precision or graph, or the manifest can't be
            written.
        ParityError: NaN, or an error above its bound.
        Cancelled: ``cancelled`` gave True. In every case the bundle is unchanged.
    """
    of_graphs = [known.name for known in TARGETS.values() if "precision" in known.takes]
    check_one_of(target, "target", of_graphs)
    arguments = CompileArguments(
        path=Path(path), precision=precision, bounds=bounds, threads=threads, batch=batch,
        options=options or BuildOptions(), progress=progress, cancelled=cancelled,
    )  # fmt: skip
    entry = compile_target(target, arguments)
    assert isinstance(entry, CompiledEntry)
    return entry


def compile_target(name: str, arguments: CompileArguments) -> CompiledEntry | KernelFiles:
    """Compiles a bundle for any of ``TARGETS``; raises as ``compile_bundle``."""
    check_taken(arguments.changed, [name])
    check_one_of(arguments.precision, "precision", PRECISIONS)
    resolve_bounds(arguments.precision, arguments.bounds)
    return TARGETS[name].compile(arguments)


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
            listed = " and ".join([*filter(None, [", ".join(takers[:-1])]), takers[-1]])
            kind = "target" if len(takers) == 1 else "targets"
            text = (
                f" is for the {kind} {listed}, not for {', '.join(targets)}: leave "
                "it out, or add such a target"
            )
            if argument == "gpus" and "tensorrt" in targets:
                text += " (TensorRT builds on the GPU that will run the plan: compile there)"
            raise ArgumentError(Message(Argument(argument), text), argument)
