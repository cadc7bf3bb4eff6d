"""Runners: where a batch of samples runs. One for CPUs; CUDA has its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import Denoiser
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.loop import run_batch
from revstep.engine.runtime.pool import WorkspacePool
from revstep.engine.runtime.timing import Timing
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.kernels import StepBuffers, backend

__all__ = ["CpuRunner", "Observe", "Runner", "StepView"]

RUNS_AT_ONCE = 8


class StepView(Protocol):
    """What can be read after a step; reading may wait for the device."""

    def flags(self) -> NDArray[np.int32]:
        """(B,): not 0 where the network's output was not finite."""
        ...

    def x0(self) -> NDArray[np.float32]:
        """(B, D): the denoised estimate; the caller's own copy."""
        ...


Observe = Callable[[int, StepView], None]


class Runner(Protocol):
    """Runs programs on batches. Thread-safe."""

    spec: DenoiserSpec

    def run(
        self,
        program: StepProgram,
        batch: Batch,
        rows: int,
        *,
        observe: Observe | None = None,
        want_x0: bool = False,
        timing: Timing | None = None,
    ) -> NDArray[np.float32]:
        """The final states (B, D) of ``batch``, in network calls of ``rows`` rows.

        ``observe`` is called with every finished step's number, from 0; what it raises ends the
        run.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """What runs; plain JSON values."""
        ...


class CpuRunner:
    """The eager loop on numpy buffers.

    Args:
        denoiser: The network.
        runs_at_once: Runs at the same time; further ones wait for their turn.
    """

    def __init__(self, denoiser: Denoiser, runs_at_once: int = RUNS_AT_ONCE) -> None:
        self.spec = denoiser.spec
        self._denoiser = denoiser
        self._pool = WorkspacePool(denoiser, runs_at_once)

    def run(
        self,
        program: StepProgram,
        batch: Batch,
        rows: int,
        *,
        observe: Observe | None = None,
        want_x0: bool = False,
        timing: Timing | None = None,
    ) -> NDArray[np.float32]:
        """See ``Runner.run``."""
        with self._pool.lend(rows) as workspace:
            return run_batch(
                program,
                batch,
                workspace,
                learned_variance=self.spec.learned_variance,
                observe=None if observe is None else _watch(observe),
                want_x0=want_x0,
                timing=timing,
            )

    def describe(self) -> dict[str, Any]:
        """Backend and kernels."""
        return {**self._denoiser.describe(), "kernels": backend()}


class _CpuView:
    def __init__(self, buffers: StepBuffers) -> None:
        self._buffers = buffers

    def flags(self) -> NDArray[np.int32]:
        flags: NDArray[np.int32] = self._buffers.flags
        return flags

    def x0(self) -> NDArray[np.float32]:
        x0: NDArray[np.float32] | None = self._buffers.x0
        assert x0 is not None
        return x0.copy()


def _watch(observe: Observe) -> Callable[[int, StepBuffers], None]:
    return lambda number, buffers: observe(number, _CpuView(buffers))
