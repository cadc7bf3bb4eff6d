"""Several compiles of one bundle, one after the other, with or without stopping at a failure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from revstep.engine.errors import ArgumentError, Cancelled
from revstep.export.parity.bounds import Bounds
from revstep.export.progress import Progress
from revstep.export.targets.compile import (
    TARGETS,
    check_precision,
    check_taken,
    compile_target,
)
from revstep.export.targets.options import BuildOptions, Profile
from revstep.export.targets.target import CompileArguments, Made

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class CompileJob:
    """One compile; as text ``tensorrt_rtx, fp16, batch 8``. None is what a target doesn't take."""

    target: str
    precision: str | None = None
    batch: Profile | tuple[int, ...] | None = None

    def __str__(self) -> str:
        batch = self.batch
        listed = ", ".join(map(str, batch)) if isinstance(batch, tuple) else str(batch)
        rows = None if batch is None else f"batch {listed}"
        return ", ".join(part for part in (self.target, self.precision, rows) if part is not None)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: what was made, or the error."""

    job: CompileJob
    made: Made | None = None
    error: Exception | None = None


def plan_jobs(
    targets: Sequence[str],
    precisions: Sequence[str],
    batches: Sequence[int] = (),
    dynamic: Profile | None = None,
) -> list[CompileJob]:
    """Every target in every precision and batch that it takes; all batches in one where it can.

    Raises:
        ValueError: An unknown target; batches, and no target that takes any; a precision that a
            target doesn't have.
    """
    profiles = [Profile.of(rows) for rows in dict.fromkeys(batches)]
    profiles += [] if dynamic is None else [dynamic]
    check_taken(["batch"] if profiles else [], targets)
    if dynamic is not None and all(TARGETS[t].together for t in targets):
        text = " measures single numbers of rows, as --batch 1,16; a range is for TensorRT"
        raise ArgumentError(f"the target {', '.join(targets)}{text}", "batch")
    jobs = [
        CompileJob(target, precision, batch)
        for target in dict.fromkeys(targets)
        for precision in _if_taken("precision", target, TARGETS[target].compiles(precisions))
        for batch in _if_taken("batch", target, _batches(target, profiles))
    ]
    for job in jobs:
        if job.precision is not None:
            check_precision(job.precision, job.target)
    return jobs


def _batches(
    target: str, profiles: Sequence[Profile]
) -> Sequence[Profile | tuple[int, ...] | None]:
    """Those of one compile each."""
    if TARGETS[target].together:
        return [tuple(p.max for p in profiles if p.static) or None]
    return profiles or [None]


def _if_taken(argument: str, target: str, values: Sequence[T]) -> Sequence[T | None]:
    return values if argument in TARGETS[target].takes else [None]


def compile_jobs(
    path: str | Path,
    jobs: Sequence[CompileJob],
    *,
    keep_going: bool = False,
    bounds: Bounds | Mapping[str, float] | None = None,
    threads: int | None = None,
    seconds: float | None = None,
    options: BuildOptions | None = None,
    progress: Callable[[CompileJob], Progress] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> list[Outcome]:
    """Runs every job with what its target takes; what succeeds stays, whatever fails after it.

    With ``keep_going`` it goes on after a failure, and the outcome holds the error; ``progress`` is
    called with a job and returns its progress; the other arguments are ``compile_bundle``'s.

    Raises:
        ValueError: Before any job, an option that no job's target takes.
        Exception: Without ``keep_going``, what the first failing job raised; Cancelled always.
    """
    shared = CompileArguments(
        path=Path(path), bounds=bounds, threads=threads, seconds=seconds,
        options=options or BuildOptions(), cancelled=cancelled,
        most_rows=max((j.batch.max for j in jobs if isinstance(j.batch, Profile)), default=0),
    )  # fmt: skip
    check_taken(shared.changed, [job.target for job in jobs])
    outcomes = []
    for job in jobs:
        arguments = dataclasses.replace(
            shared.only(TARGETS[job.target].takes),
            precision=job.precision or "fp32",
            batch=job.batch,
            progress=None if progress is None else progress(job),
        )
        try:
            made = compile_target(job.target, arguments)
        except Cancelled:
            raise
        except Exception as error:  # a full disk or short memory ends one job, not the others
            if not keep_going:
                raise
            outcomes.append(Outcome(job, error=error))
        else:
            outcomes.append(Outcome(job, made))
    return outcomes
