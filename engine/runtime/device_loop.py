"""The loop on a device: steps are enqueued ahead, and told of when the device has done them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from revstep.engine.devices.cuda import Mark, Queue
from revstep.engine.runtime.lane import Lane, Prepared
from revstep.engine.runtime.runner import Observe
from revstep.engine.runtime.timing import Timing

if TYPE_CHECKING:
    import torch

__all__ = ["run_steps"]

AHEAD = 2  # steps enqueued beyond the last one told of: the device never waits for the host


class _Snapshot:
    """What one step left, copied in the queue's order."""

    def __init__(self, lane: Lane, count: int, want_x0: bool) -> None:
        queue = lane.queue
        self._flags = queue.download(lane.slots.flags[:count])
        self._x0 = queue.download(lane.slots.x0[:count]) if want_x0 else None
        self.mark: Mark = queue.mark()

    def flags(self) -> NDArray[np.int32]:
        return np.asarray(self._flags.numpy())

    def x0(self) -> NDArray[np.float32]:
        assert self._x0 is not None
        return self._x0.numpy().copy()  # callers may keep it; pinned memory is scarce


def run_steps(
    lane: Lane,
    prepared: Prepared,
    length: int,
    count: int,
    *,
    observe: Observe | None = None,
    want_x0: bool = False,
    unroll: bool = False,
    timing: Timing | None = None,
) -> torch.Tensor:
    """Runs ``length`` steps of ``count`` placed slots; returns their states (count, D) on the host.

    ``observe`` is called after every step, or only after the last where its ``every_step`` is
    False; always when the device has done that step. Estimates are copied for the steps that its
    ``wants_x0`` names, or for all. With ``timing`` the steps run call by call: a graph can't be
    looked into.
    """
    every = observe is not None and getattr(observe, "every_step", True)
    wants_x0 = getattr(observe, "wants_x0", None)
    clock = None if timing is None else _Clock(lane.queue, prepared)
    whole = None
    if unroll and not every and clock is None:
        whole = lane.unrolled(prepared, length)
    advance = prepared.advance if clock is None else clock.advance
    waiting: deque[tuple[int, _Snapshot]] = deque()
    for number in range(length) if whole is None else ():
        advance()
        if every:
            read_x0 = want_x0 and (wants_x0 is None or wants_x0(number))
            waiting.append((number, _Snapshot(lane, count, read_x0)))
        if len(waiting) > AHEAD:
            _tell(observe, *waiting.popleft())
    if whole is not None:
        whole.replay()
    if not every:
        waiting.append((length - 1, _Snapshot(lane, count, want_x0)))
    x = lane.queue.download(lane.slots.x[:count])
    end = lane.queue.mark()
    while waiting:
        _tell(observe, *waiting.popleft())
    end.wait()
    if clock is not None and timing is not None:
        clock.add_to(timing)
    return x


def _tell(observe: Observe | None, number: int, snapshot: _Snapshot) -> None:
    if observe is not None:
        snapshot.mark.wait()
        observe(number, snapshot)


class _Clock:
    """Steps with the device's time around each part."""

    def __init__(self, queue: Queue, prepared: Prepared) -> None:
        self._queue, self._prepared = queue, prepared
        self._marks: list[list[Mark]] = []

    def advance(self) -> None:
        marks = [self._queue.mark(timed=True)]
        for call in self._prepared.calls:
            call()
            marks.append(self._queue.mark(timed=True))
        self._marks.append(marks)

    def add_to(self, timing: Timing) -> None:
        for begun, called, returned, ended in self._marks:
            ended.wait()
            network = returned.ns_since(called)
            timing.network_ns.append(network)
            timing.outside_ns.append(ended.ns_since(begun) - network)
