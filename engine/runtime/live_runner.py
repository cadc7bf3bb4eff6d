"""Runs of a module that its owner goes on using: looked at before each."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.module.denoiser import TorchModuleDenoiser
from revstep.engine.backends.module.weights_place import WeightsPlace
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.runner import Observe, Runner
from revstep.engine.runtime.timing import Timing

__all__ = ["LiveRunner"]


class LiveRunner:
    """A runner that takes up the module's changes before a run, or refuses it.

    Args:
        runner: Runs the batches.
        denoiser: The live module.
        place: Where its weights lay when the runner was made.
    """

    def __init__(self, runner: Runner, denoiser: TorchModuleDenoiser, place: WeightsPlace) -> None:
        self.spec = runner.spec
        self._runner, self._denoiser, self._place = runner, denoiser, place

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
        """See ``Runner.run``.

        Raises:
            BackendError: The module's weights were moved, cast or replaced.
        """
        self._place.check()
        self._denoiser.refresh()
        return self._runner.run(
            program, batch, rows, observe=observe, want_x0=want_x0, timing=timing
        )

    def describe(self) -> dict[str, Any]:
        """As the runner's."""
        return self._runner.describe()
