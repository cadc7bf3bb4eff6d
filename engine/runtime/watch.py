"""What a run reports: progress, previews, estimates, times; and what ends it."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revstep.engine.checks import check_function, check_whole, wrong_type
from revstep.engine.devices.protocol import Device
from revstep.engine.errors import ArgumentError, Cancelled, NonFiniteError
from revstep.engine.message import Message

SHARE = 4  # a trace takes at most this part of the machine's memory
UNKNOWN_MEMORY = 1 << 33


class Watcher(Protocol):
    """Who follows a batch through its steps; what it raises ends the run."""

    @property
    def every_step(self) -> bool:
        """Whether single steps matter; else the last one is enough."""
        ...

    @property
    def reads_x0(self) -> bool:
        """Whether any step's denoised estimate is read."""
        ...

    def wants_x0(self, number: int) -> bool:
        """Whether the estimate of step ``number``, from 0, is read."""
        ...

    def step_done(
        self, number: int, flags: NDArray[np.int32], x0: NDArray[np.float32] | None
    ) -> None:
        """The device has done step ``number``, from 0.

        Args:
            number: The step.
            flags: (B,): not 0 where the network's output was not finite.
            x0: The denoised estimates (B, D), the callee's own, where ``wants_x0`` says so.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What ``on_step`` gets after a step.

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
        limit = (memory_bytes() or UNKNOWN_MEMORY) // SHARE
        if needed > limit:
            raise ArgumentError(
                f"trace_x0 of {len(self.steps)} steps and {n} samples takes {needed / 2**30:.1f} "
                f"GiB, more than the {limit / 2**30:.1f} GiB allowed here; choose fewer steps, "
                "draw fewer samples per call, or take what you need in on_step",
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


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """What the caller of a run wants to know of its steps.

    Attributes:
        advice: What may help where the network's output is not finite.
        progress: Called with (steps done, steps in all).
        on_step: Called with a ``Preview``.
        cancel: Ends the run once set.
        trace: Records the estimates of its steps.
    """

    advice: Message
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


class BatchWatcher:
    """Serves a ``Watch`` for one batch of its run.

    Args:
        watch: What the caller wants to know.
        shape: Shape of one sample.
        first: Number of the batch's first sample.
        steps: Steps of the batch.
        done: Steps that earlier batches have done.
        total: Steps of all batches.

    Attributes:
        every_step, reads_x0: See ``Watcher``.

    Raises:
        Cancelled: The run is cancelled before it begins.
    """

    def __init__(
        self, watch: Watch, shape: tuple[int, ...], first: int, steps: int, done: int, total: int
    ) -> None:
        self._watch, self._shape, self._first = watch, shape, first
        self._steps, self._done, self._total = steps, done, total
        self.reads_x0 = watch.on_step is not None or watch.trace is not None
        self.every_step = self.reads_x0 or watch.progress is not None or watch.cancel is not None
        self._check_cancelled(0)

    def wants_x0(self, number: int) -> bool:
        """See ``Watcher``."""
        watch = self._watch
        return watch.on_step is not None or (
            watch.trace is not None and watch.trace.wants(number + 1)
        )

    def step_done(
        self, number: int, flags: NDArray[np.int32], x0: NDArray[np.float32] | None
    ) -> None:
        """See ``Watcher``."""
        if np.count_nonzero(flags):  # ten times as fast as any()
            self._refuse(number, flags)
        if not self.every_step:
            return
        watch = self._watch
        if watch.progress is not None:
            watch.progress(self._done + number + 1, self._total)
        if x0 is not None:
            estimates = x0.reshape(-1, *self._shape)
            if watch.trace is not None and watch.trace.wants(number + 1):
                watch.trace.record(number + 1, self._first, estimates)
            if watch.on_step is not None:
                watch.on_step(Preview(number + 1, self._steps, self._first, estimates))
        self._check_cancelled(number + 1)

    def _refuse(self, number: int, flags: NDArray[np.int32]) -> None:
        bad = [self._first + int(i) for i in np.flatnonzero(flags)]
        by = "at" if self.every_step or number + 1 < self._steps else "by"
        raise NonFiniteError(
            f"the network gave NaN or infinity {by} step {number + 1} of {self._steps}, for "
            f"sample {', '.join(map(str, bad[:8]))}{' ...' if len(bad) > 8 else ''}: ",
            self._watch.advice,
        )

    def _check_cancelled(self, done: int) -> None:
        """Ends the run if the caller asked for it."""
        cancel = self._watch.cancel
        if cancel is not None and cancel.is_set() and self._done + done < self._total:
            raise Cancelled(f"cancelled after {self._done + done} of {self._total} steps")


@dataclasses.dataclass(slots=True)
class Timing:
    """Where the time of a run goes, in nanoseconds; one entry per step.

    Attributes:
        network_ns: The device's time in the network.
        outside_ns: The device's time in the step.
        host_ns: The host's time in both: where the device runs behind it, what enqueueing takes.
    """

    network_ns: list[int] = dataclasses.field(default_factory=list)
    outside_ns: list[int] = dataclasses.field(default_factory=list)
    host_ns: list[int] = dataclasses.field(default_factory=list)


class Clock:
    """Steps with the device's time around each part.

    Args:
        device: Whose time it is.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._steps: list[list[Any]] = []
        self._host_ns: list[int] = []

    def run(self, parts: Sequence[Callable[[], object]]) -> None:
        """Runs the parts of one step: begin, network, step."""
        stamp = self._device.stamp
        begin, network, step = parts
        before = perf_counter_ns()
        started = stamp()
        begin()
        called = stamp()
        network()
        returned = stamp()
        step()
        self._steps.append([started, called, returned, stamp()])
        self._host_ns.append(perf_counter_ns() - before)

    def add_to(self, timing: Timing) -> None:
        """Adds the steps so far."""
        between = self._device.ns_between
        timing.host_ns.extend(self._host_ns)
        for started, called, returned, ended in self._steps:
            network = between(called, returned)
            timing.network_ns.append(network)
            timing.outside_ns.append(between(started, ended) - network)
