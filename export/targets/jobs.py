"""Several compiles of one bundle, one after the other, with or without stopping at a failure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from revstep.engine.backends.trt.library import PACKAGES
from revstep.engine.bundle.manifest import CompiledEntry
from revstep.engine.errors import Cancelled
from revstep.export.parity.check import Bounds
from revstep.export.progress import Progress
from revstep.export.targets.compile import compile_bundle
from revstep.export.targets.trt_build import BuildOptions, Profile

__all__ = ["CompileJob", "Outcome", "compile_jobs", "plan_jobs"]


@dataclasses.dataclass(frozen=True, slots=True)
class CompileJob:
    """One compile; as text ``tensorrt_rtx, fp16, batch 8``.

    Attributes:
        target: The runtime.
        precision: The graph.
        batch: A TensorRT engine's rows, or None.
    """

    target: str
    precision: str
    batch: Profile | None = None

    def __str__(self) -> str:
        rows = "" if self.batch is None else f", batch {self.batch}"
        return f"{self.target}, {self.precision}{rows}"


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: an entry, or the error."""

    job: CompileJob
    entry: CompiledEntry | None = None
    error: Exception | None = None


def plan_jobs(
    targets: Sequence[str],
    precisions: Sequence[str],
    batches: Sequence[int] = (),
    dynamic: Profile | None = None,
) -> list[CompileJob]:
    """Every target in every precision; TensorRT's in every batch too.

    Raises:
        ValueError: Batches, and no target that has any.
    """
    profiles: list[Profile | None] = [Profile(n, n, n) for n in dict.fromkeys(batches)]
    profiles += [] if dynamic is None else [dynamic]
    if profiles and not set(targets) & set(PACKAGES):
        raise ValueError(
            f"batches are for the targets {' and '.join(PACKAGES)}, not for "
            f"{', '.join(targets) or 'kernels alone'}"
        )
    return [
        CompileJob(target, precision, batch)
        for target in dict.fromkeys(targets)
        for precision in dict.fromkeys(precisions)
        for batch in ((profiles or [None]) if target in PACKAGES else [None])
    ]


def compile_jobs(
    path: str | Path,
    jobs: Sequence[CompileJob],
    *,
    keep_going: bool = False,
    bounds: Bounds | Mapping[str, float] | None = None,
    threads: int | None = None,
    options: BuildOptions | None = None,
    progress: Callable[[CompileJob], Progress] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """Runs ``compile_bundle`` for every job; what succeeds stays, whatever fails after it.

    Args:
        path: The bundle's directory.
        jobs: The jobs.
        keep_going: Go on after a failure; the outcome holds the error.
        bounds: As in ``compile_bundle``.
        threads: As in ``compile_bundle``.
        options: As in ``compile_bundle``, for TensorRT's jobs.
        progress: Given a job, its progress.
        cancelled: As in ``compile_bundle``.

    Raises:
        Exception: Without ``keep_going``, what the first failing job raised; Cancelled always.
    """
    outcomes = []
    for job in jobs:
        try:
            entry = compile_bundle(
                path,
                target=job.target,
                precision=job.precision,
                bounds=bounds,
                threads=threads,
                batch=job.batch,
                options=_options_of(job, jobs, options),
                progress=None if progress is None else progress(job),
                cancelled=cancelled,
            )
        except Cancelled:
            raise
        except Exception as error:  # a full disk or short memory ends one job, not the others
            if not keep_going:
                raise
            outcomes.append(Outcome(job, error=error))
        else:
            outcomes.append(Outcome(job, entry=entry))
    return outcomes


def _options_of(
    job: CompileJob, jobs: Sequence[CompileJob], options: BuildOptions | None
) -> BuildOptions | None:
    """A job's options; GPUs are TensorRT-RTX's where it is among the targets."""
    if options is None or job.target not in PACKAGES:
        return None
    if job.target == "tensorrt" and any(other.target == "tensorrt_rtx" for other in jobs):
        return dataclasses.replace(options, gpus=())
    return options
