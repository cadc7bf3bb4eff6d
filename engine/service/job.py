"""``Job``: a request that a service has taken, as a future; and its progress."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from time import monotonic
from typing import Never

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import BackendError
from revstep.engine.log import log
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.prepared_run import PreparedRun
from revstep.engine.runtime.samples import Samples


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """Where a request stands.

    Attributes:
        done: Steps done of all its samples together.
        total: Steps of all its samples.
        step: Steps done of the samples that have just stepped, from 1.
        steps: Steps of each sample.
        first: Number of the first of them.
        x0: Their denoised estimates, float32 (part, *shape), where this step has a preview.
        samples: The result, in the last one.
    """

    done: int
    total: int
    step: int
    steps: int
    first: int
    x0: NDArray[np.float32] | None = None
    samples: Samples | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class JobTiming:
    """Where a request's time went, in seconds.

    Attributes:
        queued_s: From submission to the first slot.
        run_s: From there to the result.
    """

    queued_s: float
    run_s: float


class Job(Future[Samples]):
    """A request that a service has taken: a ``concurrent.futures.Future`` of its ``Samples``.

    ``result()`` raises ``NonFiniteError``, ``DeadlineError``, ``BackendError``,
    ``ServiceClosedError`` where the service was closed before its end, or, once it was cancelled,
    ``concurrent.futures.CancelledError``. Callbacks run on the service's thread between
    two steps: keep them short.

    Attributes:
        id: A name of its own, 16 hexadecimal digits.
        n: Number of samples.
        seeds: uint64 (n,): each sample's own seed.
        calls: Network calls of each sample.
        priority: Higher goes first.
        previews: Steps from one preview to the next; 0: none.
        deadline: When it must be done, on ``time.monotonic``'s clock; None: whenever.
        submitted: When it was submitted, on that clock.
        begun: When it got its first slot; None: not yet.
        watched: Whether anybody follows its steps.
        latest: Its latest progress, where it is watched.
        ended: When it ended; None: not yet.
    """

    def __init__(
        self,
        run: PreparedRun,
        batch: Batch,
        *,
        priority: int = 0,
        deadline_s: float | None = None,
        previews: int = 0,
        watched: bool = False,
        encode: Callable[[], Batch] | None = None,
    ) -> None:
        super().__init__()
        self.id = secrets.token_hex(8)
        self._process = os.getpid()
        self.n, self.seeds, self.calls = batch.n, batch.seeds, run.length
        self.priority, self.previews = priority, previews
        self.submitted = monotonic()
        self.deadline = None if deadline_s is None else self.submitted + deadline_s
        self.begun: float | None = None
        self.ended: float | None = None
        self.work = Work(run, batch, encode)
        self.watched = watched or previews > 0
        self.latest: Progress | None = None
        self.queued = False
        self.on_end: Callable[[Job, str], None] | None = None  # the service's
        self.on_told: Callable[[], None] | None = None
        self.on_watch: Callable[[Job], None] | None = None
        self._news = threading.Condition()
        self._listeners: list[Callable[[], None]] = []
        self._gate = threading.Lock()  # held for good by whoever ends it

    def __reduce__(self) -> Never:
        """It waits for a thread of its process."""
        raise TypeError("a job can't be copied or pickled: send its result()")

    def cancel(self) -> bool:
        """Ends it, queued or running; its slots are free at the next step.

        Returns:
            Whether it is cancelled; False: it had ended before.
        """
        if self._is_parents() or not self._ends("cancelled"):
            return self.cancelled()
        try:
            super().cancel()
        finally:  # a callback may exit, or be interrupted
            self.set_running_or_notify_cancel()  # for concurrent.futures.wait
            self._tell_end()
        return True

    def result(self, timeout: float | None = None) -> Samples:
        """Its samples, or what it failed with: see ``concurrent.futures.Future.result``.

        Raises:
            BackendError: It runs in another process, which this one was forked from.
        """
        self._refuse_parents()
        try:
            return super().result(timeout)
        finally:
            del self  # which its error would hold by this frame, and be held by

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What it failed with, or None; raises as ``result``."""
        self._refuse_parents()
        return super().exception(timeout)

    @property
    def over(self) -> bool:
        """Whether its end is decided; ``done`` says so a moment later, once the end can be read."""
        return self._gate.locked()

    def running(self) -> bool:
        """Whether it has slots and has not ended."""
        return self.begun is not None and not self.done()

    @property
    def timing(self) -> JobTiming | None:
        """Where its time went; None: it has not ended."""
        if self.ended is None:
            return None
        begun = self.ended if self.begun is None else self.begun
        return JobTiming(begun - self.submitted, self.ended - begun)

    def progress(self) -> Iterator[Progress]:
        """Its progress as it comes, from now on; a slow reader gets the newest only.

        The last one has the samples.

        Raises:
            Exception: What ``result`` raises.
        """
        self._refuse_parents()
        self._watch()
        seen: Progress | None = None
        while not self.done():
            with self._news:
                while self.latest is seen and not self.done():
                    self._news.wait()
                seen = self.latest
            if seen is not None and not self.done():
                yield seen
        yield self.last_progress()

    def last_progress(self) -> Progress:
        """What the last progress says; raises what ``result`` raises."""
        samples = self.result(timeout=0)
        total = self.n * self.calls
        return Progress(total, total, self.calls, self.calls, 0, samples=samples)

    def listen(self, listener: Callable[[], None]) -> None:
        """Has ``listener`` called at every progress, and at the end, on whatever thread that is."""
        with self._news:
            self._listeners.append(listener)
        self._watch()

    def tell(self, progress: Progress) -> None:
        """Takes news; for the service."""
        with self._news:
            self.latest = progress
            self._news.notify_all()
        self._call_listeners()

    def complete(self, samples: Samples) -> None:
        """Ends it with its samples, unless it has ended; for the service."""
        if self._ends("completed"):
            with _callbacks_errors_logged():
                self.set_result(samples)
            self._tell_end()

    def fail(self, error: BaseException, outcome: str = "failed") -> None:
        """Ends it with an error, unless it has ended; for the service."""
        if self._ends(outcome):
            with _callbacks_errors_logged():
                self.set_exception(error)
            self._tell_end()

    def _is_parents(self) -> bool:
        """Whether its service runs in the process that this one was forked from."""
        return self.ended is None and os.getpid() != self._process

    def _refuse_parents(self) -> None:
        if self._is_parents():
            raise BackendError(
                f"this request runs in process {self._process}, and not in this forked child of "
                "it: submit it again here"
            )

    def _watch(self) -> None:
        if not self.watched:
            self.watched = True
            if self.on_watch is not None:
                self.on_watch(self)

    def _ends(self, outcome: str) -> bool:
        """Whether this is its end: there is one, and it is counted before anyone sees it."""
        if not self._gate.acquire(blocking=False):
            return False
        self.ended = monotonic()
        if self.on_end is not None:
            self.on_end(self, outcome)
        return True

    def _tell_end(self) -> None:
        with self._news:
            self._news.notify_all()
        self._call_listeners()
        if self.on_told is not None:
            self.on_told()

    def _call_listeners(self) -> None:
        for listener in tuple(self._listeners):
            with _callbacks_errors_logged():
                listener()


@contextlib.contextmanager
def _callbacks_errors_logged() -> Iterator[None]:
    """What a callback raises must not end the service's thread; a ``Future`` lets exits through."""
    try:
        yield
    except BaseException:
        log.exception("a callback of a request raised")


class Work:
    """What a service has of a request: its samples, admitted in parts. The worker's alone.

    Args:
        run: Its run.
        batch: Its values.
        encode: Gives the values that encoders make; ``batch`` has others in their place until then.

    Attributes:
        run, batch: As given.
        rows: Network rows of each sample.
        x: Final states (n, D), float32, as parts end.
        admitted: Samples that have had a slot.
        ended: Samples that are done.
        lot: Samples that may still be admitted before others' turn comes.
    """

    def __init__(self, run: PreparedRun, batch: Batch, encode: Callable[[], Batch] | None) -> None:
        self.run, self.batch, self._encode = run, batch, encode
        self.rows = [1] * batch.n
        for guided in batch.guided.tolist():
            self.rows[guided] = 2
        self.x: NDArray[np.float32] | None = None
        self.admitted = self.ended = 0
        self.lot = 0

    @property
    def waiting(self) -> int:
        """Samples that have had no slot yet."""
        return len(self.rows) - self.admitted

    @property
    def unencoded(self) -> bool:
        """Whether ``encode`` has something to make yet."""
        return self._encode is not None

    def encode(self) -> None:
        """Makes what encoders make, once; raises what they raise."""
        if self._encode is not None:
            self.batch, self._encode = self._encode(), None

    def store(self, first: int, states: NDArray[np.float32], shape: tuple[int, ...]) -> None:
        """Keeps the final states (k, D) of the samples from ``first`` on."""
        if self.x is None:
            self.x = np.empty((len(self.rows), *shape), np.float32)
        self.x[first : first + len(states)] = states.reshape(-1, *shape)
        self.ended += len(states)
