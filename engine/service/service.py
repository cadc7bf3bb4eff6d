"""``Service``: many requests on one engine, which share every network call."""

from __future__ import annotations

import asyncio
import threading
import weakref
from types import TracebackType
from typing import Any, Never, Unpack

from revstep.engine.checks import check_bool, check_number, check_whole, wrong_type
from revstep.engine.engine import Engine
from revstep.engine.errors import (
    ArgumentError,
    QueueFullError,
    ServiceClosedError,
)
from revstep.engine.program.reductions import refuse_unknown
from revstep.engine.runtime.buckets import fixed_rows
from revstep.engine.runtime.request import Request, RequestArguments
from revstep.engine.runtime.samples import Samples
from revstep.engine.service.job import Job
from revstep.engine.service.schedule import retry_after_s
from revstep.engine.service.stats import ServiceStats, Tally
from revstep.engine.service.stream import ProgressStream
from revstep.engine.service.worker import Worker
from revstep.engine.system.forks import renew_in_children

SLOTS = 16
MAX_PRIORITY = 1000
STOP_S = 10.0  # that a closing service waits for the network call that it is in

REQUESTED = frozenset(RequestArguments.__annotations__)


class Submission(RequestArguments, total=False):
    """What ``submit`` takes besides ``n``."""

    previews: int
    priority: int
    deadline_s: float | None


class Service:
    """Takes requests from any thread and steps them together: in-flight batching.

    Requests of any sampler, steps, guidance, conditions and seeds share each network call; they
    come and go between two steps. A guided sample takes two network rows, another one::

        with revstep.Service(engine) as service:
            job = service.submit(4, sampler="unipc", steps=12, seed=0)
            images = job.result().pil()

        samples = await service.sample(steps=30, deadline_s=0.5)

    What a request gives is what ``engine.sample`` gives, within the tolerance of a network whose
    bits depend on the rows of a call; with ``deterministic`` its bits are the same alone and in any
    company.

    In a forked child the service begins anew, with no request; those of the parent stay there.

    Args:
        engine: What it samples. On a GPU ``engine.sample`` waits while the service has requests.
        slots: Network rows of the largest call; None: 16, or the batch range's end, if less.
        max_queue: Requests that may wait for their first slot or for the decoder; further ones are
            refused.
        deterministic: Give every call the same number of rows. An engine that was loaded
            ``reproducible`` has that already, and the bits are those of its ``sample``.
        ageing_s: Seconds of waiting that are worth one level of priority.
        warm_up: Whether ``warm_up`` is called now.

    Attributes:
        engine: As given.
        slots: As resolved.
        deterministic: As resolved.
        max_queue: As given.

    Raises:
        ArgumentTypeError, ArgumentError: An argument of a wrong type, or out of range.
        BackendError: The network can't be bound.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        slots: int | None = None,
        max_queue: int = 256,
        deterministic: bool = False,
        ageing_s: float = 1.0,
        warm_up: bool = True,
    ) -> None:
        if not isinstance(engine, Engine):
            raise wrong_type(engine, "engine", "an Engine, as revstep.load gives it")
        self.engine = engine
        self.max_queue = check_whole(max_queue, "max_queue", 1, numpy=True)
        self.deterministic = (
            check_bool(deterministic, "deterministic") or engine.fixed_rows is not None
        )
        self.slots = self._checked_slots(slots)
        self._ageing_s = float(check_number(ageing_s, "ageing_s", 0.0, 1e6, above=True))
        check_bool(warm_up, "warm_up")
        self._buckets = engine.runtime.buckets(self.slots, fixed=self.deterministic)
        self._closed = self._draining = False
        self._begin()
        if warm_up:
            self.warm_up()
        renew_in_children(self)

    def warm_up(self) -> None:
        """Runs the network once in every bucket, so that no request waits for that.

        Before the first request: the constructor does it, unless it was told not to.

        Raises:
            BackendError: The network can't be bound, or fails.
        """
        with self._hold() as lane:
            for rows in reversed(self._buckets):
                lane.warm_up(rows)

    def submit(
        self,
        n: int | Request | None = None,
        *,
        previews: int = 0,
        priority: int = 0,
        deadline_s: float | None = None,
        **arguments: Unpack[RequestArguments],
    ) -> Job:
        """Queues a request; gives its future.

        Args:
            n: Number of samples, or a whole ``Request``, as in ``Engine.sample``.
            previews: Denoised estimates come with the progress every so many steps; 0: none.
            priority: Higher goes first, from -1000 to 1000; waiting ``ageing_s`` is worth 1.
            deadline_s: Seconds from now in which it must be done; else it fails with
                ``DeadlineError``, and its slots are free at the next step.
            arguments: Those of ``Engine.sample`` that a ``Request`` has: sampler, steps, seed,
                guidance, guidance_weight, conditions, null_conditions, inputs, null_inputs,
                prompt, negative_prompt, height, width, start, strength, mask, known, noise, grid,
                compat, clip, final, decode. What is to be encoded is, between two steps, when
                the request gets its first slot.

        Raises:
            ArgumentTypeError, ArgumentError, ProgramError: As ``Engine.sample``, at once.
            QueueFullError: ``max_queue`` requests wait; it knows ``retry_after_s``.
            ServiceClosedError: The service drains, or is closed.
        """
        return self._submit(n, dict(arguments), previews, priority, deadline_s, watched=False)

    async def sample(
        self, n: int | Request | None = None, **arguments: Unpack[Submission]
    ) -> Samples:
        """The samples of a request; cancelling the task cancels the request.

        Args:
            n: As in ``submit``.
            arguments: As in ``submit``.

        Raises:
            Exception: As ``submit``, and what ``Job.result`` raises.
        """
        return await asyncio.wrap_future(self.submit(n, **arguments))

    def stream(
        self, n: int | Request | None = None, **arguments: Unpack[Submission]
    ) -> ProgressStream:
        """The progress of a request, for ``async for``; leaving the loop cancels the request.

        Args:
            n: As in ``submit``.
            arguments: As in ``submit``.

        Raises:
            Exception: As ``submit``, at once.
        """
        asyncio.get_running_loop()  # before anything is queued
        rest: dict[str, Any] = dict(arguments)
        own = (rest.pop("previews", 0), rest.pop("priority", 0), rest.pop("deadline_s", None))
        return ProgressStream(self._submit(n, rest, *own, watched=True))

    def stats(self) -> ServiceStats:
        """Queue, slots, times and outcomes, now."""
        worker, tally = self._worker, self._tally
        queued = worker.queued  # first: who leaves the queue meanwhile runs then
        running, slots, rows = worker.occupancy()
        return ServiceStats(
            queued=queued,
            running=running,
            samples_waiting=worker.samples_waiting,
            slots=self.slots,
            slots_in_use=slots,
            rows_in_use=rows,
            steps=tally.steps,
            rows_run=tally.rows_run,
            rows_wasted=tally.rows_wasted,
            outcomes=tally.outcomes,
            queued_s=tally.queued_s.times(),
            run_s=tally.run_s.times(),
            step_s=tally.step_s.times(),
            network_s=tally.network_s.times(),
            draining=self._draining,
        )

    def drain(self, timeout_s: float | None = None) -> bool:
        """Takes no more requests and finishes those that it has; gives whether it did in time.

        Args:
            timeout_s: Seconds; None: as long as they take.
        """
        if timeout_s is not None:
            check_number(timeout_s, "timeout_s", 0.0)
        self._draining = True
        return self._worker.wait_idle(timeout_s)

    def close(self) -> None:
        """Ends what is left, with ``ServiceClosedError``, and the thread; twice is once."""
        self._draining = self._closed = True
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    @property
    def draining(self) -> bool:
        """Whether it takes no more requests."""
        return self._draining

    def __enter__(self) -> Service:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> Never:
        """It has a thread, and belongs to its process."""
        raise TypeError(
            "a service can't be copied or pickled: send its engine, and make a Service of that"
        )

    def __repr__(self) -> str:
        stats = self.stats()
        state = "closed" if self._closed else f"{stats.running} running, {stats.queued} queued"
        return f"Service({self.slots} slots, {state})"

    def after_fork(self) -> None:
        """Begins anew in a child: the thread is not there, and its locks may be held."""
        self._finalizer.detach()
        self._begin()

    def _begin(self) -> None:
        """A lane and a worker, which nobody has used; a GPU's lane is lent when it is needed."""
        runtime = self.engine.runtime
        self._hold = runtime.hold(self.slots, fixed=self.deterministic)
        self._tally = Tally()
        self._worker = Worker(
            self._hold,
            shape=self.engine.spec.shape,
            slots=self.slots,
            lowest_rows=self._buckets[-1 if self.deterministic else 0],
            ageing_s=self._ageing_s,
            compacts=not self.deterministic,
            before=runtime.before_run,
            tally=self._tally,
        )
        # at the interpreter's end too: a thread inside a library would abort the process
        self._finalizer = weakref.finalize(self, _stop, self._worker)

    def _checked_slots(self, slots: int | None) -> int:
        least, most = self.engine.spec.batch
        fixed = self.engine.fixed_rows
        if slots is None:
            return fixed or (fixed_rows((least, most)) if self.deterministic else
                             max(least, min(SLOTS, most)))  # fmt: skip
        slots = check_whole(
            slots, "slots", least, most, numpy=True, more=", the denoiser's batch range"
        )
        if fixed is not None and slots != fixed:
            raise ArgumentError(
                f"slots={slots}, but this engine is reproducible, with {fixed} rows in every call: "
                "leave slots out, or load it without reproducible=True",
                "slots",
            )
        return slots

    def _submit(
        self,
        n: int | Request | None,
        arguments: dict[str, Any],
        previews: int,
        priority: int,
        deadline_s: float | None,
        *,
        watched: bool,
    ) -> Job:
        if self._draining:
            raise self._refused()
        if not REQUESTED.issuperset(arguments):
            refuse_unknown("submit has no argument", arguments, Submission.__annotations__)
            arguments = {k: v for k, v in arguments.items() if k in REQUESTED}
        if deadline_s is not None:
            deadline_s = float(check_number(deadline_s, "deadline_s", 0.0, numpy=True, above=True))
        trace = n.trace_x0 if isinstance(n, Request) else None
        if trace is not None and trace is not False:
            text = "a service keeps no trace_x0: leave it out, and ask for previews"
            raise ArgumentError(text, "trace_x0")
        run, batch, encode = self.engine.plan(n, **arguments)
        if len(batch.guided) and self.slots < 2:
            text = "guidance needs 2 network rows per sample, and this service has 1 slot"
            raise ArgumentError(text, "guidance")
        job = Job(
            run,
            batch,
            priority=check_whole(priority, "priority", -MAX_PRIORITY, MAX_PRIORITY, numpy=True),
            deadline_s=deadline_s,
            previews=check_whole(previews, "previews", 0, numpy=True),
            watched=watched,
            encode=encode,
        )
        worker = self._worker
        if not worker.put(job, self.max_queue):
            self._tally.outcome("refused")
            raise self._full(worker)
        return job

    def _refused(self) -> ServiceClosedError:
        self._tally.outcome("refused")
        if self._closed:
            return ServiceClosedError("this service is closed: make another")
        return ServiceClosedError(
            "this service finishes what it has and takes no more requests: ask another"
        )

    def _full(self, worker: Worker) -> QueueFullError:
        tally = self._tally
        spent = tally.step_s.times().total
        rate = (tally.rows_run - tally.rows_wasted) / spent if spent else 0.0
        wait = retry_after_s(worker.waiting_row_steps(), rate)
        return QueueFullError(
            f"{self.max_queue} requests wait already, which is all that this service takes: try "
            f"again in {wait:.0f} s, or make it with a larger max_queue",
            retry_after_s=wait,
        )


def _stop(worker: Worker) -> None:
    """Ends a worker, which may be in a network call; a callback of its own doesn't wait for it."""
    worker.stop()
    if worker.thread.is_alive() and threading.current_thread() is not worker.thread:
        worker.thread.join(STOP_S)
