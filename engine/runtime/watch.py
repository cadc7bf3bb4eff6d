"""What a run tells its caller: progress, previews, recorded estimates, cancellation, failures."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_function, wrong_type
from revstep.engine.errors import Cancelled, NonFiniteError
from revstep.engine.runtime.kept_x0 import X0Trace
from revstep.engine.runtime.runner import StepView

__all__ = ["Observer", "Preview", "Watch"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What ``on_step`` is told after a step.

    Attributes:
        step: Steps done of this batch, from 1.
        steps: Steps of this batch.
        first: Number of the batch's first sample.
        x0: The denoised estimate so far, float32 (batch, *shape); the callee's own copy. It is the
            network's: inpainting's known pixels are not written into it.
    """

    step: int
    steps: int
    first: int
    x0: NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """Who wants to know of a run's steps.

    Attributes:
        advice: What may help where the network's output is not finite.
        progress: Told (steps done, steps in all).
        on_step: Told a ``Preview``.
        cancel: Ends the run once set.
        trace: Records the estimates of its steps.
    """

    advice: str
    progress: Callable[[int, int], object] | None = None
    on_step: Callable[[Preview], object] | None = None
    cancel: threading.Event | None = None
    trace: X0Trace | None = None

    def __post_init__(self) -> None:
        for name in ("progress", "on_step"):
            if (function := getattr(self, name)) is not None:
                check_function(function, name)
        if self.cancel is not None and not callable(getattr(self.cancel, "is_set", None)):
            raise wrong_type(self.cancel, "cancel", "a threading.Event")

    @property
    def wants_x0(self) -> bool:
        """Whether any step's estimate is read."""
        return self.on_step is not None or self.trace is not None

    @property
    def every_step(self) -> bool:
        """Whether anybody wants to know of single steps; else the last one is enough."""
        return self.wants_x0 or self.progress is not None or self.cancel is not None


class Observer:
    """Called after every step of one batch; raises what ends the run.

    Args:
        watch: Who wants to know.
        shape: Shape of one sample.
        first: Number of the batch's first sample.
        steps: Steps of the batch.
        done: Steps that earlier batches have done.
        total: Steps of all batches.

    Raises:
        Cancelled: The run is cancelled before it begins.
    """

    def __init__(
        self, watch: Watch, shape: tuple[int, ...], first: int, steps: int, done: int, total: int
    ) -> None:
        self._watch, self._shape, self._first = watch, shape, first
        self._steps, self._done, self._total = steps, done, total
        self._check_cancelled(0)

    @property
    def every_step(self) -> bool:
        """As ``Watch.every_step``."""
        return self._watch.every_step

    def wants_x0(self, number: int) -> bool:
        """Whether the estimate of step ``number``, from 0, is read."""
        watch = self._watch
        return watch.on_step is not None or (
            watch.trace is not None and watch.trace.wants(number + 1)
        )

    def __call__(self, number: int, view: StepView) -> None:
        """Step ``number``, from 0, is done."""
        watch = self._watch
        self._check_finite(number, view.flags())
        if watch.progress is not None:
            watch.progress(self._done + number + 1, self._total)
        if self.wants_x0(number):
            x0 = view.x0().reshape(-1, *self._shape)
            if watch.trace is not None and watch.trace.wants(number + 1):
                watch.trace.record(number + 1, self._first, x0)
            if watch.on_step is not None:
                watch.on_step(Preview(number + 1, self._steps, self._first, x0))
        self._check_cancelled(number + 1)

    def _check_finite(self, number: int, flags: NDArray[np.int32]) -> None:
        if not flags.any():
            return
        bad = [self._first + int(i) for i in np.flatnonzero(flags)]
        by = "at" if self.every_step or number + 1 < self._steps else "by"
        raise NonFiniteError(
            f"the network gave NaN or infinity {by} step {number + 1} of {self._steps}, for "
            f"sample {', '.join(map(str, bad[:8]))}{' ...' if len(bad) > 8 else ''}: "
            f"{self._watch.advice}"
        )

    def _check_cancelled(self, done: int) -> None:
        """Ends the run if the caller asked for it."""
        cancel = self._watch.cancel
        if cancel is not None and cancel.is_set() and self._done + done < self._total:
            raise Cancelled(f"cancelled after {self._done + done} of {self._total} steps")
