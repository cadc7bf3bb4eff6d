"""``compile_kernels``: the step's GPU kernels compiled into a bundle, ahead of time."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from revstep.engine.bundle.kernels import KernelFiles
from revstep.engine.bundle.reader import Bundle
from revstep.engine.bundle.record import record_kernels
from revstep.engine.errors import BundleError, CompileError
from revstep.export.progress import Progress
from revstep.export.targets.options import compute_capability
from revstep.export.targets.target import CompileArguments, Target
from revstep.kernels.gpu import aot

DTYPES = ("float32",)  # every exported graph takes and gives float32, whatever it computes in


def compile_kernels(
    path: str | Path, *, gpus: Sequence[str] = (), progress: Progress | None = None
) -> KernelFiles:
    """Compiles the kernels that a bundle's sampling needs on GPUs, in place of older ones.

    It needs Triton, and neither a GPU nor a driver. What it writes runs through cuda.core, without
    Triton and without a C compiler. Portable PTX is always among it, for every GPU from sm_80 on;
    the driver compiles that when it is loaded.

    Args:
        path: The bundle's directory.
        gpus: What to make machine code for, as ``sm_90``; empty: sm_80, sm_90, sm_100 and sm_120.
        progress: Called with (description, done, total).

    Returns:
        The files. Those that are there already, whole and up to date, are not made again.

    Raises:
        ValueError: A GPU that is not written so, or that the kernels can't be compiled for.
        BundleError: The bundle is damaged.
        CompileError: No Triton, Triton fails, or the bundle can't be written. In every case the
            bundle is unchanged.
    """
    capabilities = [_capability(gpu) for gpu in gpus] or list(aot.CAPABILITIES)
    bundle = Bundle.open(path, compiled=False)
    try:
        import triton
    except ImportError as error:
        raise CompileError(
            f"compiling the kernels needs Triton ({error}); pip install 'revstep[triton]' (Linux), "
            "or compile on a Linux machine: no GPU is needed"
        ) from error
    spec = bundle.spec
    parts = (
        aot.FORMAT, triton.__version__, aot.source_digest(), *DTYPES, spec.elements % 4 == 0,
        spec.learned_variance, spec.second_time is not None, *sorted(set(capabilities)),
    )  # fmt: skip
    key = hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:32]
    known = KernelFiles.of(bundle)
    if known is not None and known.folder.name == key:
        with contextlib.suppress(BundleError):  # damaged files are made again
            known.check()
            if progress is not None:
                progress("in the bundle", 1, 1)
            return known
    with tempfile.TemporaryDirectory(prefix="revstep-kernels-") as folder:
        work = Path(folder)
        try:
            aot.write_kernels(
                work, DTYPES, spec.elements, learned=spec.learned_variance,
                two_times=spec.second_time is not None, capabilities=sorted(set(capabilities)),
                progress=progress,
            )  # fmt: skip
        except (ImportError, RuntimeError, OSError) as error:  # of Triton: ptxas fails, no space
            raise CompileError(f"Triton {triton.__version__} can't compile: {error}") from error
        record_kernels(bundle, key, work)
    made = KernelFiles.of(Bundle.open(path, compiled=False))
    assert made is not None
    return made


def _capability(gpu: str) -> int:
    found = compute_capability(gpu)
    if found not in aot.KNOWN:
        known = ", ".join(f"sm_{capability}" for capability in aot.KNOWN)
        raise ValueError(
            f"the step's kernels can't be compiled for {gpu}; allowed: {known}. GPUs before sm_80 "
            "are too old; later ones than these run the portable PTX"
        )
    return found


def _compile(arguments: CompileArguments) -> KernelFiles:
    gpus = arguments.options.gpus
    return compile_kernels(arguments.path, gpus=gpus, progress=arguments.progress)


TARGET = Target("kernels", ("gpus",), _compile)
