"""The loop by hand over a graph on the CPU: the runtime's plain call, the steps in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from revstep.bench.baselines.loop import run_steps
from revstep.bench.baselines.protocol import Feed, Given
from revstep.bench.baselines.steps import steps_of
from revstep.kernels import columns as col

Floats = NDArray[np.float32]
Call = Callable[[Mapping[str, NDArray[np.generic]]], Floats]
"""The network's output for its inputs by name."""


class HostLoop:
    """Draws in numpy.

    Args:
        given: What to draw.
        call: The network.
        title: What runs.
    """

    def __init__(self, given: Given, call: Call, title: str) -> None:
        self.title = title
        self._given, self._call = given, call
        self._steps = steps_of(given.program)
        names = [time.name for time in given.spec.times]
        table = given.program.table[:-1]
        self._times = [
            {
                name: np.full(given.rows, row[column], np.float32)
                for name, column in zip(names, (col.TIME, col.TIME_2), strict=False)
            }
            for row in table
        ]

    def sample(self, seed: int, feed: Feed | None = None) -> Floats:
        """As ``Baseline.sample``."""
        given, state = self._given, self._given.spec.name
        shape = (given.n, *given.spec.shape)
        generator = np.random.default_rng(seed)

        def draw(number: int) -> Floats:
            del number
            return generator.standard_normal(shape, np.float32)

        def network(fed: Floats, number: int) -> Floats:
            both = fed if given.guidance is None else np.concatenate([fed, fed])
            return self._call({state: both, **self._times[number], **given.conditions})

        noise = draw(0) if feed is None else feed.noise
        found: Floats = run_steps(
            self._steps, network, given.program.start[1] * noise, guidance=given.guidance,
            noise=draw if feed is None else feed.step, exp=np.exp,
            learned_variance=given.spec.learned_variance,
            look=None if feed is None else feed.look,
        )  # fmt: skip
        return found
