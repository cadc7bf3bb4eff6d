"""The denoised estimates of chosen steps, kept beside the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_whole, wrong_type
from revstep.engine.errors import ArgumentError

__all__ = ["X0Trace"]

SHARE = 4  # a trace takes at most this part of the machine's memory
UNKNOWN_MEMORY = 1 << 33


class X0Trace:
    """Room for the estimates of chosen steps, taken before the run.

    Args:
        asked: True: every step; or step numbers, from 1 as in ``Preview.step``, negative ones from
            the end (-1: the last).
        steps: Steps (network calls) of the run.
        n: Number of samples.
        shape: Shape of one sample.

    Attributes:
        steps: The chosen steps, ascending.
        x0: float32 (len(steps), n, *shape).

    Raises:
        TypeError: Something else.
        ValueError: A step that the run doesn't have, or more than a quarter of the memory.
    """

    def __init__(
        self, asked: bool | Sequence[int], steps: int, n: int, shape: tuple[int, ...]
    ) -> None:
        from revstep.engine.system.machine import memory_bytes  # slow to import

        self.steps = _chosen(asked, steps)
        needed = 4 * len(self.steps) * n * math.prod(shape)
        most = (memory_bytes() or UNKNOWN_MEMORY) // SHARE
        if needed > most:
            raise ArgumentError(
                f"trace_x0 of {len(self.steps)} steps and {n} samples takes {needed / 2**30:.1f} "
                f"GiB, more than the {most / 2**30:.1f} GiB allowed here; choose fewer steps, draw "
                "fewer samples a call, or take what you need in on_step",
                "trace_x0",
            )
        self._place = {step: k for k, step in enumerate(self.steps)}
        self.x0: NDArray[np.float32] = np.empty((len(self.steps), n, *shape), np.float32)

    def wants(self, step: int) -> bool:
        """Whether that step is chosen."""
        return step in self._place

    def record(self, step: int, first: int, x0: NDArray[np.float32]) -> None:
        """Keeps the estimates (b, *shape) of a batch that begins with sample ``first``."""
        self.x0[self._place[step], first : first + len(x0)] = x0


def _chosen(asked: object, steps: int) -> tuple[int, ...]:
    if asked is True:
        return tuple(range(1, steps + 1))
    if isinstance(asked, str | bytes | bool) or not isinstance(asked, Sequence | np.ndarray):
        allowed = "a sequence of step numbers such as (1, 10, -1), or True"
        raise wrong_type(asked, "trace_x0", allowed)
    found = set()
    for step in asked:
        number = check_whole(step, "trace_x0", numpy=True)
        if not 1 <= abs(number) <= steps:
            text = f"trace_x0 asks for step {number} of a run of {steps} steps"
            raise ArgumentError(text, "trace_x0")
        found.add(number if number > 0 else steps + 1 + number)
    return tuple(sorted(found))
