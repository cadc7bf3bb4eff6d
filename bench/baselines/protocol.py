"""What a baseline is, and what it is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revstep.engine.program.table import StepProgram
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.engine.system.cores import usable_threads

if TYPE_CHECKING:
    from revstep.bench.baselines.source import Source
    from revstep.bench.measure.measure import Work

Look = Callable[[int, Any, Any], object]
"""Called after a network call with its number, the state that the network was fed and what it
says, guided: arrays or tensors (n, *shape)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """What a run that is looked at is given, in place of what it would draw.

    Attributes:
        noise: Of the initial state, float32 (n, *shape).
        step: The noise of a step by its number, float32 (n, *shape).
        look: Called after every network call.
    """

    noise: NDArray[np.float32]
    step: Callable[[int], NDArray[np.float32]]
    look: Look


class Baseline(Protocol):
    """Draws the cell's samples."""

    @property
    def title(self) -> str:
        """What runs, with its versions."""
        ...

    def sample(self, seed: int, feed: Feed | None = None) -> NDArray[np.float32]:
        """One run, the samples on the host: float32 (n, *shape).

        Args:
            seed: Of the noise that it draws itself.
            feed: What it is given in place of that noise.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """What baselines are made of.

    Attributes:
        work: What the engine runs.
        program: The table of its run.
        conditions: name -> (rows, *condition shape), of both halves of guided samples.
        source: The PyTorch module, where the caller names one.
        precision: Of the engine.
        device: Of the engine: ``cpu``, ``cuda:0``.
        threads: Of a network on the CPU.
        kept: What baselines keep from one opening of a cell to the next, by their names: what takes
            so long to make that none would be opened twice.
    """

    work: Work
    program: StepProgram
    conditions: dict[str, NDArray[Any]]
    source: Source | None
    precision: str
    device: str
    threads: int
    kept: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, work: Work, source: Source | None, kept: dict[str, Any] | None = None) -> Given:
        """What a cell's baselines are made of."""
        run, batch = work.engine.resolve(work.cell.batch, **work.arguments, seed=0)
        conditions = dict(batch.conditions)
        if len(batch.guided):
            nulls = batch.null_conditions
            conditions = {k: np.concatenate([v, nulls[k]]) for k, v in conditions.items()}
        described: dict[str, Any] = work.engine.describe()
        return cls(
            work, run.program, conditions, source,
            precision=str(described.get("precision", "fp32")),
            device=str(described["device"]),
            threads=int(work.cell.threads or described.get("threads") or usable_threads()),
            kept={} if kept is None else kept,
        )  # fmt: skip

    @property
    def spec(self) -> DenoiserSpec:
        """The denoiser's spec."""
        return self.work.engine.spec

    @property
    def n(self) -> int:
        """Samples of a run."""
        return self.work.cell.batch

    @property
    def guidance(self) -> float | None:
        """Of classifier-free guidance; None: there is no other half."""
        return None if self.work.cell.guidance == 1.0 else self.work.cell.guidance

    @property
    def rows(self) -> int:
        """Of a network call."""
        return self.n if self.guidance is None else 2 * self.n
