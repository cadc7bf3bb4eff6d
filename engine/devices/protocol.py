"""What a device offers the runtime: arrays, copies, the step's kernels, and an order of work.

Arrays are numpy's on the host and torch's on a GPU. Slices, indices and assignment mean the same in
both, so the runtime is written once; what differs is a method here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from revstep.kernels import StepBuffers
from revstep.kernels.layout import Array


class CaptureRefused(Exception):  # noqa: N818  (the eager loop runs instead)
    """Calls that can't be captured; the text is the reason."""


class Mark(Protocol):
    """A place in a device's work."""

    def wait(self) -> None:
        """Returns when the device has done the work before this place."""
        ...


class PreparedStep(Protocol):
    """A step over fixed buffers, loaded; its calls enqueue and wait for nothing."""

    @property
    def begin(self) -> Callable[[], None]:
        """Chooses every slot's table row and writes the network's times."""
        ...

    @property
    def step(self) -> Callable[[], object]:
        """Runs every slot's row."""
        ...


@runtime_checkable
class RunsSteps(Protocol):
    """A step that runs in a loop of its own, sooner than by calls."""

    @property
    def steps(self) -> Callable[[Callable[[], object], int], int]:
        """Runs begin, a network and step so many times; gives how many it ran.

        It ends at the first step that met a non-finite output.
        """
        ...


class Graph(Protocol):
    """Recorded calls."""

    def replay(self) -> None:
        """Enqueues all of them."""
        ...


class Graphs(Protocol):
    """Makes graphs on one device."""

    def capture(self, calls: Sequence[Callable[[], object]]) -> Graph:
        """Records the calls, in order, without running them.

        Raises:
            CaptureRefused: One of them can't be captured.
        """
        ...


class Device(Protocol):
    """Where a lane's arrays live and its work runs, in order.

    Attributes:
        name: ``cpu``, ``cuda:0``.
        ahead: Steps enqueued beyond the last one reported, so that the device never waits for the
            host. 0: work is done when its call returns, so every step can be looked at for free.
        warm_ups: Calls of a new network before it counts: libraries choose algorithms and make
            workspaces in the first ones.
    """

    name: str
    ahead: int
    warm_ups: int

    def use(self) -> contextlib.AbstractContextManager[None]:
        """Makes it the current thread's device; all other methods run inside."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Zeros; ``uint64`` may be held as int64 of the same bits."""
        ...

    def upload(self, array: NDArray[Any]) -> Array:
        """The array on the device, in the order of its work; valid as long as ``array``."""
        ...

    def download(self, array: Array) -> NDArray[Any]:
        """The array on the host, valid once a later mark was waited for; copy it to keep it.

        The memory may be the device's own, or scarce.
        """
        ...

    def mark(self) -> Mark:
        """The place after all work so far."""
        ...

    def stamp(self) -> Any:
        """The device's time at the place after all work so far."""
        ...

    def ns_between(self, earlier: Any, later: Any) -> int:
        """Nanoseconds from one stamp to another; waits for both."""
        ...

    def prepare(self, buffers: StepBuffers) -> PreparedStep:
        """The step over these buffers.

        Raises:
            BackendError: The kernels are missing.
        """
        ...

    def fill_noise(self, out: Array, seed: Array, seeds: NDArray[np.uint64]) -> None:
        """Fills ``out`` (k, D) with the seeds' initial noise; ``seed`` holds them on the device.

        ``out`` is contiguous and begins at a multiple of 16 bytes.
        """
        ...

    def memory_named(self, doing: str, fix: str) -> contextlib.AbstractContextManager[None]:
        """Turns an allocator's error into a ``DeviceMemoryError`` that names both."""
        ...

    def describe_kernels(self) -> str:
        """What runs the step."""
        ...
