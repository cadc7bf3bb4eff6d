"""Prepared steps: a bucket's buffers, its network, the step's kernels, and graphs of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.devices.protocol import CaptureRefused, Device, Graph, Graphs
from revstep.engine.errors import DeviceMemoryError
from revstep.engine.log import log


@dataclasses.dataclass(slots=True, eq=False)
class Prepared:
    """All that runs the steps of one bucket.

    Attributes:
        network: The bucket's network buffers.
        parts: begin, network and step, called one by one.
        many: ``RunsSteps.steps``, where the step has that.
        graph: The parts as a graph; None: they are called.
        unrolled: Run length -> the graph of that many steps, or None: it can't be captured.
    """

    network: NetworkBuffers
    parts: tuple[Callable[[], None], Callable[[], None], Callable[[], object]]
    many: Callable[[Callable[[], object], int], int] | None = None
    graph: Graph | None = None
    unrolled: dict[int, Graph | None] = dataclasses.field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Network rows of the bucket."""
        return int(self.network.t.shape[0])

    @property
    def calls(self) -> tuple[Callable[[], object], ...]:
        """What a step calls."""
        return self.parts if self.graph is None else (self.graph.replay,)

    def run(self, count: int) -> int:
        """Calls so many steps, or fewer: see ``RunsSteps``."""
        if self.many is not None and self.graph is None:
            return self.many(self.parts[1], count)
        calls = self.calls
        for _ in range(count):
            for call in calls:
                call()
        return count

    def warm_up(self, device: Device, times: int) -> None:
        """Compiles, loads and chooses all that a run needs; its slots are idle."""
        elements = math.prod(self.network.x.shape[1:])  # which decides the noise's kernel
        noise, seed = device.zeros((1, elements), "float32"), device.zeros((1,), "uint64")
        device.fill_noise(noise, seed, np.zeros(1, np.uint64))
        for _ in range(times):
            for call in self.parts:
                call()
        device.mark().wait()


class Capture:
    """Graphs of prepared steps, where they can be had; else the reason, logged once.

    Args:
        device: The device.
        graphs: Captures; None: every step is enqueued call by call.

    Attributes:
        refused: Why nothing is captured, once that is known.
    """

    def __init__(self, device: Device, graphs: Graphs | None) -> None:
        self.refused: str | None = None
        self._device = device
        self._graphs = graphs

    def step(self, prepared: Prepared) -> None:
        """Captures a step."""
        if self._graphs is None or self.refused is not None:
            return
        try:
            prepared.graph = self._capture(self._graphs, prepared.parts)
        except CaptureRefused as refusal:
            self.refused = str(refusal)
            log.warning("no CUDA graph was captured: %s; the eager loop runs instead", refusal)

    def run(self, prepared: Prepared, length: int) -> Graph | None:
        """The graph of a whole run of ``length`` steps, or None where it can't be made."""
        if self._graphs is None or prepared.graph is None:
            return None
        if length not in prepared.unrolled:
            what = f"unrolling {length} steps of {prepared.rows} network rows"
            fix = "load with fewer lengths in unroll, or with smaller buckets"
            graph = None
            try:
                with self._device.memory_named(what, fix):
                    graph = self._capture(self._graphs, prepared.parts * length)
            except (CaptureRefused, DeviceMemoryError) as error:
                log.warning("%s failed: %s; the steps run one by one instead", what, error)
            prepared.unrolled[length] = graph
        return prepared.unrolled[length]

    def describe(self) -> str:
        """``on``, ``off``, or why it was refused."""
        if self.refused is not None:
            return f"refused: {self.refused}"
        return "off" if self._graphs is None else "on"

    def _capture(self, graphs: Graphs, calls: Sequence[Callable[[], object]]) -> Graph:
        try:
            return graphs.capture(calls)
        except CaptureRefused:  # another thread breaks one by waiting for the whole GPU: once more
            return graphs.capture(calls)
