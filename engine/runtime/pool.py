"""Lanes lent to threads: as many as are asked for on the host, one on a GPU.

A denoiser is thread-safe but what it binds is not, so every run has a lane of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol

from revstep.engine.errors import BackendError
from revstep.engine.runtime.buckets import bucket_for
from revstep.engine.runtime.lane import Lane
from revstep.engine.system.forks import refuse_forked, renew_in_children

HELD_PROGRAM_ROWS = 8192  # of a lane for mixed requests: 1 MB, which is taken as it fills
KEPT_BYTES = 1 << 22  # of states that an idle lane keeps: what is small is fast


Meanwhile = Callable[[], float]
"""What a thread that waits for a lane still has to do; gives seconds until it is called again."""


class Hold(Protocol):
    """Gives a lane while its context is entered."""

    def __call__(self, meanwhile: Meanwhile | None = None) -> AbstractContextManager[Lane]:
        """The lane; ``meanwhile`` is called while another run has it."""


class LanePool:
    """At most ``limit`` lanes at once; idle ones are kept, the least recently used go first.

    Args:
        make: Makes a lane of the given buckets.
        limit: Runs at the same time; further ones wait for their turn. A run that a callback
            of another begins, on its thread, takes a lane beyond the limit instead: the two would
            wait for each other.
        kernels: What runs the step.
        buckets: Network rows that calls are padded to, ascending; none: every number has a lane
            of its own.
    """

    def __init__(
        self,
        make: Callable[[Sequence[int]], Lane],
        limit: int,
        kernels: str,
        buckets: Sequence[int] = (),
    ) -> None:
        self._make = make
        self._limit = limit
        self._kernels = kernels
        self._buckets = tuple(buckets)
        self._thread = threading.local()
        self._idle: OrderedDict[int, Lane] = OrderedDict()  # id -> lane, oldest first
        self.after_fork()
        renew_in_children(self)

    def after_fork(self) -> None:
        """Frees all places: the threads that hold them aren't there in a forked child."""
        self._places: SimpleQueue[None] = SimpleQueue()  # in C, as no semaphore is
        for _ in range(self._limit):
            self._places.put(None)
        self._lock = threading.Lock()

    def lend(self, rows: int) -> AbstractContextManager[Lane]:
        """A lane of ``rows`` network rows, or of the bucket that holds them."""
        return _Loan(self, bucket_for(self._buckets, rows) if self._buckets else rows)

    def take(self, rows: int) -> tuple[Lane, bool]:
        """A lane of exactly so many rows, and whether this thread holds another one already."""
        thread = self._thread
        nested = getattr(thread, "holds", False)
        if not nested:
            self._places.get()
        thread.holds = True
        try:
            return self._idle_lane(rows) or self._make((rows,)), nested
        except BaseException:
            self._leave(nested)
            raise

    def give_back(self, lane: Lane, nested: bool) -> None:
        """Ends what ``take`` began."""
        try:
            self._put_back(lane)
        finally:
            self._leave(nested)

    def hold(self, buckets: Sequence[int]) -> Hold:
        """What gives one lane of its own, of these buckets, each time that it is called."""
        lane = self._make(tuple(buckets))
        lane.arena.reserve(HELD_PROGRAM_ROWS)
        return lambda meanwhile=None: contextlib.nullcontext(lane)

    def _leave(self, nested: bool) -> None:
        self._thread.holds = nested
        if not nested:
            self._places.put(None)

    def describe(self) -> dict[str, Any]:
        """Kernels, and the buckets where there are any."""
        buckets = {"buckets": list(self._buckets)} if self._buckets else {}
        return {"kernels": self._kernels, **buckets}

    def _idle_lane(self, rows: int) -> Lane | None:
        with self._lock:
            for key in reversed(self._idle):
                if self._idle[key].buckets == (rows,):
                    return self._idle.pop(key)
        return None

    def _put_back(self, lane: Lane) -> None:
        lane.trim(KEPT_BYTES)
        with self._lock:
            self._idle[id(lane)] = lane
            while len(self._idle) > self._limit:
                self._idle.popitem(last=False)


class _Loan:
    """A lane while the block runs; a class, as a generator takes a large part of a short run."""

    __slots__ = ("_lane", "_nested", "_pool", "_rows")

    def __init__(self, pool: LanePool, rows: int) -> None:
        self._pool, self._rows = pool, rows

    def __enter__(self) -> Lane:
        self._lane, self._nested = self._pool.take(self._rows)
        return self._lane

    def __exit__(self, *_: object) -> None:
        self._pool.give_back(self._lane, self._nested)


class OneLane:
    """One lane, which holds all of its device's memory and graphs; one run at a time.

    Args:
        lane: The lane.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: int | None = None  # which holds the lock

    @contextlib.contextmanager
    def lend(self, rows: int, meanwhile: Meanwhile | None = None) -> Iterator[Lane]:
        """The lane.

        Args:
            rows: Network rows of the largest call.
            meanwhile: Called while another run has the lane.

        Raises:
            Exception: What ``meanwhile`` raises: the lane is waited for no more.
            BackendError: It is asked for from a callback of its own run, or in a child that was
                forked from the process that made it.
            DeviceMemoryError: The device's memory is short; later runs work.
            ValueError: More rows than the largest bucket.
        """
        device, me = self.lane.device, threading.get_ident()
        refuse_forked(self._process, device.name)
        if self._thread == me:
            raise BackendError(
                "this engine runs one batch at a time, and its own callback asks for another; "
                "sample after the run, or load a second engine for the callback"
            )
        doing = f"in a run of {bucket_for(self.lane.buckets, rows)} network rows"
        fix = "use a smaller batch_size, or load with a lower precision"
        with self._hold(me, meanwhile), device.use(), device.memory_named(doing, fix):
            yield self.lane

    def hold(self, buckets: Sequence[int]) -> Hold:
        """What lends the lane each time that it is called: see ``lend``."""
        return partial(self.lend, max(buckets))

    @contextlib.contextmanager
    def _hold(self, thread: int, meanwhile: Meanwhile | None) -> Iterator[None]:
        if not self._lock.acquire(blocking=meanwhile is None):
            assert meanwhile is not None
            while not self._lock.acquire(timeout=meanwhile()):
                pass
        self._thread = thread
        try:
            yield
        finally:
            self._thread = None
            self._lock.release()

    def describe(self) -> dict[str, Any]:
        """Kernels, buckets, and whether steps run as graphs."""
        lane = self.lane
        return {
            "kernels": lane.device.describe_kernels(),
            "buckets": list(lane.buckets),
            "graphs": lane.capture.describe(),
            "unrolled": sorted(lane.unroll),
        }
