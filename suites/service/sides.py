"""The three servers that are compared, over one engine: only who steps with whom differs."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Protocol

from revstep.engine.engine import Engine
from revstep.engine.errors import QueueFullError
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.lane import Lane
from revstep.engine.runtime.prepared_run import PreparedRun
from revstep.engine.runtime.samples import Samples
from revstep.engine.service.service import Service
from suites.service.asks import Ask

SLOTS, MAX_QUEUE = 16, 256
IN_FLIGHT, WHOLE, ALONE = "in flight", "whole generations", "one at a time"

Queued = tuple[PreparedRun, Batch, "Future[Samples]"]


class Side(Protocol):
    """A server of requests."""

    def submit(self, ask: Ask) -> Future[Samples]:
        """Takes a request, or raises ``QueueFullError``."""

    def close(self) -> None:
        """Ends it; nothing is waiting."""


class InFlight:
    """``revstep.Service``: a request steps from the next step on, and leaves when it is done."""

    def __init__(self, engine: Engine, slots: int = SLOTS, *, deterministic: bool = False) -> None:
        self.service = Service(
            engine, slots=slots, max_queue=MAX_QUEUE, deterministic=deterministic
        )
        self.thread_id = 0  # of the thread that answers; 0: nothing was answered

    def submit(self, ask: Ask) -> Future[Samples]:
        """Takes a request."""
        job = self.service.submit(1, **ask.arguments())
        if not self.thread_id:
            job.add_done_callback(self._see_thread)
        return job

    def _see_thread(self, _: object) -> None:
        self.thread_id = threading.get_ident()

    def close(self) -> None:
        """Ends the service's thread."""
        self.service.close()


class WholeGenerations:
    """Whole batches, on a lane as the service's.

    When idle it takes all that waits, up to 16 requests, and waits for nobody. All step as often as
    the longest needs, and are answered when it is done.
    """

    def __init__(self, engine: Engine, slots: int = SLOTS) -> None:
        self._engine, self._slots = engine, slots
        self._lane = engine.runtime.hold(slots, fixed=False)
        self._queue: queue.SimpleQueue[Queued | None] = queue.SimpleQueue()
        with self._lane() as lane:
            for rows in lane.buckets:
                lane.warm_up(rows)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, ask: Ask) -> Future[Samples]:
        """Takes a request, checked here as a service does."""
        run, batch = self._engine.resolve(n=1, **ask.arguments())
        refuse_over(self._queue.qsize())
        future: Future[Samples] = Future()
        self._queue.put((run, batch, future))
        return future

    def close(self) -> None:
        """Ends its thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            taken = [first]
            while len(taken) < self._slots and not self._queue.empty():
                if (another := self._queue.get()) is None:
                    self._queue.put(None)
                    break
                taken.append(another)
            with self._lane() as lane:
                answer_all(lane, taken, self._engine.spec.shape)


class OneAtATime:
    """A thread that calls ``engine.sample`` for each request, in the order that they came."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[tuple[Ask, Future[Samples]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def submit(self, ask: Ask) -> Future[Samples]:
        """Takes a request."""
        refuse_over(self._queue.qsize())
        future: Future[Samples] = Future()
        self._queue.put((ask, future))
        return future

    def close(self) -> None:
        """Ends its thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (next_one := self._queue.get()) is not None:
            ask, future = next_one
            try:
                future.set_result(self._engine.sample(1, **ask.arguments()))
            except Exception as error:  # of any kind: it is the request's
                future.set_exception(error)


def answer_all(lane: Lane, taken: list[Queued], shape: tuple[int, ...]) -> None:
    """Runs one batch from its first step to its last, and answers everyone then."""
    try:
        admitted = [lane.admit(run.program, batch) for run, batch, _ in taken]
        try:
            lane.run(max(run.length for run, _, _ in taken))
            states = [lane.states(here).reshape(-1, *shape).copy() for here in admitted]
        finally:
            lane.empty()
    except Exception as error:  # of any kind: the batch's
        for _, _, future in taken:
            future.set_exception(error)
        return
    for (run, batch, future), x in zip(taken, states, strict=True):
        future.set_result(run.samples(x, batch))


def refuse_over(waiting: int) -> None:
    """The bound that all sides have.

    Raises:
        QueueFullError: So many are waiting.
    """
    if waiting >= MAX_QUEUE:
        raise QueueFullError(f"{waiting} requests are waiting; at most {MAX_QUEUE} may")


SIDES: Mapping[str, Callable[[Engine], Side]] = {
    IN_FLIGHT: InFlight,
    WHOLE: WholeGenerations,
    ALONE: OneAtATime,
}


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread, and those that it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def served(engine: Engine, name: str, core: int) -> Iterator[Side]:
    """One of ``SIDES`` whose thread is on a core."""
    with on_core(core):
        side = SIDES[name](engine)
    try:
        yield side
    finally:
        side.close()
