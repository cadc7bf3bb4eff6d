"""That a baseline does the engine's work, before it is timed: step by step, from the same noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.baselines.protocol import Baseline, Feed, Given
from revstep.engine.errors import ParityError
from revstep.export.parity.bounds import recorded, relative_error, root_mean_square
from revstep.kernels import columns as col
from revstep.kernels import noise, normal_fill

SEED = 0
WIDER = 10.0
"""Two runs that are both right differ by the errors of both, step after step."""

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Differences:
    """How far a baseline's run is from the engine's.

    Attributes:
        steps: Of the denoised estimate of each network call, over its RMS; where the estimate is
            a large multiple of the state (p_x above 1), over that multiple too.
        final: Of the samples, over their RMS.
    """

    steps: tuple[float, ...]
    final: float

    @property
    def largest(self) -> float:
        """Of all."""
        return max(*self.steps, self.final)

    @classmethod
    def largest_of(cls, runs: Sequence[Differences]) -> Differences:
        """The largest of several runs, each step by itself."""
        steps = zip(*(run.steps for run in runs), strict=True)
        return cls(tuple(map(max, steps)), max(run.final for run in runs))


class OurRun:
    """The engine's run of a cell, which the baselines' are compared with.

    Args:
        given: The cell's.

    Attributes:
        bound: The largest difference of the same work.
    """

    def __init__(self, given: Given) -> None:
        work = given.work
        self._given = given
        self._seeds = SEED + np.arange(given.n, dtype=np.uint64)
        self._noise = self._normals(0, noise.STREAM_INITIAL)
        self._ours = work.engine.sample(
            given.n, **work.arguments, seed=SEED, noise=self._noise, trace_x0=True
        )
        self.bound = WIDER * recorded(work.bundle.manifest, given.precision).forward

    def check(self, name: str, baseline: Baseline) -> Differences:
        """The differences of a run from the same noise.

        Raises:
            ParityError: One is above the bound: it does not do the same work.
        """
        found: list[float] = []

        def look(number: int, fed: Any, m: Any) -> None:
            found.append(self._of_step(number, _host(fed), _host(m)))

        def step(number: int) -> Floats:
            index = int(self._given.program.table[number, col.NOISE])
            return self._normals(index, noise.STREAM_STEP)

        x = baseline.sample(SEED, Feed(self._noise, step, look))
        steps = self._given.program.length
        if len(found) != steps:
            raise ParityError(
                f"the baseline {name!r} made {len(found)} network calls, and the engine {steps}: "
                "it does not do the same work, and is not timed"
            )
        differences = Differences(tuple(found), _difference(self._ours.x, x))
        for number, each in enumerate((*found, differences.final), 1):
            if not each <= self.bound:
                where = "the samples" if number > steps else f"step {number} of {steps}"
                raise ParityError(
                    f"the baseline {name!r} ({baseline.title}) does not do the same work: it "
                    f"differs by {each:.3g} of the RMS at {where}, and may by {self.bound:g}; it "
                    "is not timed. Leave it out of --vs, or name the module that the bundle was "
                    "exported from"
                )
        return differences

    def _of_step(self, number: int, fed: NDArray[Any], m: NDArray[Any]) -> float:
        """Of the estimate that a state and a network's output mean."""
        row = self._given.program.rows[number]
        theirs = row[col.P_X] * (fed / row[col.C_IN]) + row[col.P_M] * m
        theirs = np.clip(theirs, row[col.LO], row[col.HI])
        assert self._ours.x0_trace is not None
        multiple = max(1.0, abs(float(row[col.P_X])))
        return _difference(self._ours.x0_trace[number], theirs) / multiple

    def _normals(self, index: int, stream: int) -> Floats:
        flat = np.empty((self._given.n, self._given.spec.elements), np.float32)
        normal_fill(flat, self._seeds, index, stream)
        return flat.reshape(self._given.n, *self._given.spec.shape)


def _difference(ours: Floats, theirs: NDArray[Any]) -> float:
    """The largest, over the RMS of theirs; infinite where theirs are not finite."""
    return relative_error(theirs, ours, scale=root_mean_square(theirs) or 1.0)


def _host(value: Any) -> NDArray[np.float64]:
    """An array or a tensor as float64 on the host."""
    array = value if isinstance(value, np.ndarray) else value.float().cpu().numpy()
    return np.asarray(array, np.float64)
