"""Options of a compile: the rows of a TensorRT plan, the GPUs, memory and effort."""

from __future__ import annotations

import dataclasses
import re

from revstep.engine.checks import check_whole
from revstep.engine.renamed import renamed_fields
from revstep.engine.spec.denoiser import DenoiserSpec

SM = re.compile(r"sm_?(\d{2,3})", re.IGNORECASE)


@renamed_fields(least="min", tuned="opt", most="max")
@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Profile:
    """The rows that a TensorRT plan takes, by TensorRT's own names.

    Attributes:
        min: Fewest rows.
        opt: Rows for which its kernels are chosen.
        max: Most rows.
    """

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        for rows in (self.min, self.opt, self.max):
            check_whole(rows, "batch")
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(
                "a batch profile is min:opt:max with 1 <= min <= opt <= max; got "
                f"{self.min}:{self.opt}:{self.max}"
            )

    def __str__(self) -> str:
        return str(self.max) if self.static else f"{self.min}:{self.opt}:{self.max}"

    @classmethod
    def of(cls, rows: int) -> Profile:
        """Of a plan with one batch."""
        return cls(rows, rows, rows)

    @property
    def static(self) -> bool:
        """Whether there is one batch only."""
        return self.min == self.max

    def check(self, spec: DenoiserSpec) -> None:
        """Refuses rows outside the spec's batch range.

        Raises:
            ValueError: They are outside.
        """
        lowest, highest = spec.batch
        if not (lowest <= self.min and self.max <= highest):
            raise ValueError(
                f"batch {self} is outside the {lowest} to {highest} rows of this bundle's spec; "
                "choose within it, or export the bundle with a wider batch range"
            )


@dataclasses.dataclass(frozen=True, slots=True)
class BuildOptions:
    """What a build takes besides its network and batch.

    Attributes:
        gpus: TensorRT-RTX and kernels: compute capabilities such as ``sm_89``; empty: the target's
            own choice.
        memory_limit: TensorRT: bytes of GPU memory for scratch space, or None for the GPU's.
        optimization_level: TensorRT: 0 (fast build) to 5 (thorough), or None for its default.
    """

    gpus: tuple[str, ...] = ()
    memory_limit: int | None = None
    optimization_level: int | None = None

    def __post_init__(self) -> None:
        if self.memory_limit is not None:
            check_whole(self.memory_limit, "memory_limit", 1, more=" bytes")
        if self.optimization_level is not None:
            check_whole(self.optimization_level, "optimization_level", 0, 5)


def compute_capability(gpu: str) -> int:
    """89 of ``sm_89``.

    Raises:
        ValueError: Not written so.
    """
    match = SM.fullmatch(gpu.strip())
    if match is None:
        raise ValueError(f"a GPU is written sm_<compute capability>, as sm_89; got {gpu!r}")
    return int(match[1])
