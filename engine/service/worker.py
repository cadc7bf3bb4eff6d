"""The worker: one thread that admits, steps and retires all requests of a service on one lane."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from revstep.engine.errors import (
    BackendError,
    CapacityError,
    DeadlineError,
    NonFiniteError,
    ServiceClosedError,
)
from revstep.engine.log import log
from revstep.engine.runtime.lane import Admission, Lane
from revstep.engine.runtime.pool import Hold
from revstep.engine.runtime.watch import Clock, Timing
from revstep.engine.service.job import Job, Progress, Work
from revstep.engine.service.schedule import fitting, steps_ahead, turn_key
from revstep.engine.service.stats import Tally

if TYPE_CHECKING:
    from revstep.engine.devices.protocol import Mark

TURN_S = 200e-6  # small steps run together up to this long: see steps_ahead
TIMED = 64  # one turn in so many has the network's own time taken
SPARE = 64  # ended jobs that a heap may hold before it is made anew
LOOK_S = 0.01  # at deadlines, while another run has the lane
STEP_WEIGHT = 0.1  # of the latest turn in the running mean of a step's time


@dataclasses.dataclass(slots=True, eq=False)
class Part:
    """Samples of a job that were admitted together.

    Attributes:
        job: The job.
        admission: Where they are.
        first: Number of the first of them.
        end: The lane's steps when they are done.
    """

    job: Job
    admission: Admission
    first: int
    end: int

    def step_at(self, steps: int) -> int:
        """Steps that they have done, when the lane has done ``steps``."""
        return steps - self.admission.begun


@dataclasses.dataclass(slots=True, eq=False)
class Look:
    """What was copied after a turn, valid once its mark was waited for.

    Attributes:
        steps: The lane's steps then.
        flags: int32 (slots,).
        owners: Who had which slots; None: who has them now.
        ends: Parts that are done, with their states.
        seen: Parts that somebody watches, with the steps that their jobs have done then, and their
            estimates where these are wanted.
        mark: When it is valid.
    """

    steps: int
    flags: NDArray[np.int32]
    owners: list[tuple[Part, NDArray[np.intp]]] | None
    ends: list[tuple[Part, NDArray[np.float32]]]
    seen: list[tuple[Part, int, NDArray[np.float32] | None]]
    mark: Mark


class Worker:
    """Runs jobs on a lane, in a thread that begins with the first of them.

    Args:
        hold: Gives the lane while its context is entered.
        shape: Of one sample.
        slots: Slots, and network rows, that may be in use.
        lowest_rows: Network rows of every call, at least.
        ageing_s: See ``turn_key``.
        compacts: Whether samples move into smaller buckets.
        before: Called before a job's first step: refuses it, or takes up what has changed.
        tally: Counts.
    """

    def __init__(
        self,
        hold: Hold,
        *,
        shape: tuple[int, ...],
        slots: int,
        lowest_rows: int,
        ageing_s: float,
        compacts: bool,
        before: Callable[[], None] | None,
        tally: Tally,
    ) -> None:
        self._hold = hold
        self._shape, self._slots, self._lowest = shape, slots, lowest_rows
        self._ageing_s, self._compacts = ageing_s, compacts
        self._before = before
        self.tally = tally
        self._commands: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        self._waiting: list[tuple[float, int, Job]] = []  # a heap; jobs may have ended
        self._numbers = itertools.count()
        self._deadlines: list[tuple[float, int, weakref.ref[Job]]] = []  # a heap
        self._parts: dict[Job, list[Part]] = {}
        self._ends: list[tuple[int, int, Part]] = []  # a heap
        self._watched: dict[int, Part] = {}
        self._owners: list[tuple[Part, NDArray[np.intp]]] | None = None
        self._looks: deque[Look] = deque()
        self._gone: list[Job] = []  # ended before their steps did
        self._left = False  # whether slots were freed since the last compaction
        self._step_s = 0.0
        self._turns = 0
        self._stop = False  # the thread's own
        self._started = self._stopped = False
        self._idle = threading.Condition()
        self._open = 0  # jobs of which no end can be read
        self._queued = 0  # those of them that have had no slot
        self._undecoded = 0  # jobs whose samples wait for the decoder
        self._decoders: ThreadPoolExecutor | None = None
        self.thread = threading.Thread(target=self._run, name="revstep-service", daemon=True)

    # What other threads call.

    def put(self, job: Job, max_queue: int) -> bool:
        """Takes a job, unless so many are queued; gives whether it did.

        Raises:
            ServiceClosedError: The worker was stopped.
        """
        with self._idle:
            if self._stopped:
                raise ServiceClosedError("this service was closed: make another")
            if self._queued + self._undecoded >= max_queue:
                return False
            if not self._started:
                self.thread.start()  # which may fail: nothing is counted then
                self._started = True
            self._open += 1
            self._queued += 1
            job.queued = True
            job.on_end, job.on_told, job.on_watch = self._ended, self._told, self._watch
            self._commands.put(("job", job))
        return True

    def stop(self) -> None:
        """Ends the thread, and what it has left."""
        with self._idle:
            self._stopped = True
            self._commands.put(("stop", None))

    def wait_idle(self, timeout_s: float | None) -> bool:
        """Waits until all jobs have ended; gives whether they have."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._open, timeout_s)

    @property
    def queued(self) -> int:
        """Jobs that have had no slot yet."""
        return self._queued

    @property
    def samples_waiting(self) -> int:
        """Samples that wait for a slot."""
        return sum(work.waiting for work, _ in self._still_waiting())

    def waiting_row_steps(self) -> int:
        """Network rows times steps of those."""
        return sum(sum(work.rows[work.admitted :]) * calls for work, calls in self._still_waiting())

    def _still_waiting(self) -> list[tuple[Work, int]]:
        """What waits, and its network calls."""
        return [(job.work, job.calls) for _, _, job in tuple(self._waiting) if not job.over]

    def occupancy(self) -> tuple[int, int, int]:
        """Jobs that run, their slots, their network rows."""
        running = tuple(self._parts.values())
        parts = [part.admission for one in running for part in tuple(one)]
        return len(running), sum(len(p.slots) for p in parts), sum(len(p.rows) for p in parts)

    def _ended(self, job: Job, outcome: str) -> None:
        """A job's end is decided, on whatever thread."""
        self.tally.outcome(outcome)
        if outcome == "completed" and (timing := job.timing) is not None:
            self.tally.run_s.add(timing.run_s)
        self._leave_queue(job)
        if outcome != "completed":
            self._commands.put(("ended", job))

    def _told(self) -> None:
        """A job's end can be read."""
        with self._idle:
            self._open -= 1
            self._idle.notify_all()

    def _leave_queue(self, job: Job) -> None:
        with self._idle:
            if job.queued:
                job.queued = False
                self._queued -= 1

    def _watch(self, job: Job) -> None:
        self._commands.put(("watch", job))

    # The thread.

    def _run(self) -> None:
        try:
            while not self._stop:
                self._take(block=True)
                if not self._waiting:  # it was about jobs that have left
                    self._gone.clear()
                    continue
                try:
                    with self._hold(self._meanwhile) as lane:
                        self._serve(lane)
                except _Stopped:
                    continue
                except BaseException as error:
                    log.exception("a service's lane failed, and with it all requests")
                    self._fail_all(error)
        finally:
            self.stop()  # whatever ended the thread: nobody is queued for none
            self._fail_all(ServiceClosedError("the service was closed before this was done"))
            if self._decoders is not None:
                self._decoders.shutdown(wait=False)

    def _meanwhile(self) -> float:
        """What is due while another run has the lane; gives seconds until the next look.

        Raises:
            _Stopped: The service was closed.
        """
        self._take(block=False)
        if self._expire():
            self._take(block=False)
        self._gone.clear()  # none of them has a slot
        self._waiting = _without_ended(self._waiting, 2 * self._queued)
        if self._stop:
            raise _Stopped
        return LOOK_S

    def _serve(self, lane: Lane) -> None:
        """Turns, until there is nothing to do."""
        lane.empty()
        try:
            while not self._stop and (self._waiting or self._parts or self._looks):
                self._turn(lane)
            self._ends.clear()  # of jobs that ended before their steps did
        finally:
            lane.empty()

    def _turn(self, lane: Lane) -> None:
        self._take(block=False)
        if self._deadlines and self._expire():
            self._take(block=False)
        if self._gone:
            self._retire_gone(lane)
        if self._waiting:
            self._admit(lane)
        if self._left:
            self._left = False
            if self._compacts and lane.compact():
                self._owners = None
        if not self._parts:
            while self._looks:
                self._report()
            return
        begun = perf_counter()
        try:
            done = self._step(lane)
        except BaseException as error:
            self._failed_step(lane, error)
            return
        if not done:
            return
        ended = perf_counter()
        self._look(lane)
        while len(self._looks) > lane.device.ahead:
            self._report()
        if lane.device.ahead:  # the step was only enqueued; a turn waits as long as a step takes
            ended = perf_counter()
        self._time(ended - begun, done)

    def _take(self, *, block: bool) -> None:
        """What other threads have asked for."""
        commands = self._commands
        while block or not commands.empty():
            what, job = commands.get()
            block = False
            if what == "job":
                self._enqueue(job)
            elif what == "ended":
                self._gone.append(job)
            elif what == "watch":
                self._watched.update((id(part), part) for part in self._parts.get(job, ()))
            else:
                self._stop = True

    def _enqueue(self, job: Job) -> None:
        if job.over:
            return
        job.work.lot = self._slots
        key = turn_key(job.submitted, job.priority, self._ageing_s)
        heapq.heappush(self._waiting, (key, next(self._numbers), job))
        if job.deadline is not None:
            self._deadlines = _without_ended(self._deadlines, 2 * self._open)
            # weak: a deadline may be far beyond the end, and a job has its samples
            heapq.heappush(self._deadlines, (job.deadline, next(self._numbers), weakref.ref(job)))

    def _expire(self) -> bool:
        """Fails the jobs whose deadline has passed; gives whether any did."""
        now, expired = monotonic(), False
        while self._deadlines and (self._deadlines[0][0] <= now or _is_over(self._deadlines[0][2])):
            deadline, _, found = heapq.heappop(self._deadlines)
            if (job := found()) is not None and not job.over:
                expired = True
                allowed = deadline - job.submitted
                where = "in the queue" if job.begun is None else "while it ran"
                job.fail(
                    DeadlineError(
                        f"not done within its deadline of {allowed:.3g} s: it passed {where}; give "
                        "a later deadline_s, a higher priority or fewer steps, or fewer requests"
                    ),
                    "expired",
                )
        return expired

    # Coming and going.

    def _admit(self, lane: Lane) -> None:
        """Gives slots to who waits, as far as there is room.

        Samples that run wait for one request's encoding at most; the next one's comes after a step.
        """
        waiting, encoded = self._waiting, False
        while waiting:
            job = waiting[0][2]
            work = job.work
            if job.over or not work.waiting:
                heapq.heappop(waiting)
                continue
            slots, rows = (self._slots - taken for taken in lane.taken)
            count = fitting(work.rows, work.admitted, slots, rows, work.lot)
            if not count or (encoded and work.unencoded and self._parts):
                return
            encoded = encoded or work.unencoded
            if not self._admit_part(lane, job, count):
                return
            if not work.waiting:
                heapq.heappop(waiting)
            elif not work.lot:  # a lane's worth was admitted: others' turn
                work.lot = self._slots
                key = turn_key(monotonic(), job.priority, self._ageing_s)
                heapq.heapreplace(waiting, (key, next(self._numbers), job))

    def _admit_part(self, lane: Lane, job: Job, count: int) -> bool:
        """Admits the job's next samples; gives whether others may be tried."""
        work = job.work
        first = work.admitted
        try:
            if self._before is not None:
                self._before()
            work.encode()
            admission = lane.admit(
                work.run.program,
                work.batch.part(first, first + count),
                x0=job.previews > 0,
                lowest_rows=self._lowest,
            )
        except CapacityError as error:
            if self._parts:  # room comes when they leave
                return False
            job.fail(error)
            return True
        except Exception as error:
            job.fail(error)
            return True
        work.admitted += count
        work.lot -= count
        part = Part(job, admission, first, lane.steps + work.run.length)
        self._parts.setdefault(job, []).append(part)
        if job.begun is None:
            job.begun = monotonic()
            self.tally.queued_s.add(job.begun - job.submitted)
            self._leave_queue(job)  # last: whoever looks finds it here or there
        heapq.heappush(self._ends, (part.end, next(self._numbers), part))
        if job.watched:
            self._watched[id(part)] = part
        self._owners = None
        return True

    def _retire_gone(self, lane: Lane) -> None:
        """Frees the slots of jobs that ended before their steps did."""
        gone, self._gone = self._gone, []
        for job in gone:
            for part in tuple(self._parts.get(job, ())):
                self._retire(lane, part)
        self._waiting = _without_ended(self._waiting, 2 * self._queued)

    def _retire(self, lane: Lane, part: Part) -> None:
        parts = self._parts[part.job]
        parts.remove(part)
        if not parts:
            del self._parts[part.job]
        self._watched.pop(id(part), None)
        self._owners, self._left = None, True
        lane.retire(part.admission)

    # Steps.

    def _step(self, lane: Lane) -> int:
        """One step or more; gives how many: none where all have ended just now."""
        ends = self._ends
        while ends and ends[0][2].job.over:
            heapq.heappop(ends)
        if not ends:
            return 0
        timed = self._turns % TIMED == 0
        self._turns += 1
        rows, used = lane.rows, lane.taken[1]
        if timed:
            self._timed_step(lane)
            done = 1
        else:
            done = lane.run(
                steps_ahead(
                    ends[0][0] - lane.steps, self._next_look(lane), self._step_s, TURN_S,
                    at_once=lane.device.ahead == 0,
                )
            )  # fmt: skip
        tally = self.tally
        tally.steps += done
        tally.rows_run += rows * done
        tally.rows_wasted += (rows - used) * done
        return done

    def _time(self, seconds: float, steps: int) -> None:
        """Notes what the latest steps took."""
        each = seconds / steps
        self._step_s += (each - self._step_s) * (STEP_WEIGHT if self._step_s else 1.0)
        self.tally.step_s.add(each, steps)

    def _timed_step(self, lane: Lane) -> None:
        clock, timing = Clock(lane.device), Timing()
        lane.step(clock)
        clock.add_to(timing)
        self.tally.network_s.add(timing.network_ns[0] / 1e9)

    def _next_look(self, lane: Lane) -> int | None:
        """Steps until a preview is due."""
        looks = [
            part.job.previews - part.step_at(lane.steps) % part.job.previews
            for part in self._watched.values()
            if part.job.previews
        ]
        return min(looks, default=None)

    def _failed_step(self, lane: Lane, error: BaseException) -> None:
        """The network raised: all who were in the call have lost a step."""
        log.warning("a network call failed, and %d requests with it: %s", len(self._parts), error)
        for job in tuple(self._parts):
            job.fail(_lost(error))
        self._drop_parts()
        while self._looks:
            try:
                self._report()  # of steps before it
            except Exception as worse:
                log.warning("nor can earlier steps be read: %s", worse)
        lane.empty()

    def _drop_parts(self) -> None:
        self._parts.clear()
        self._watched.clear()
        self._ends.clear()
        self._owners = None

    def _look(self, lane: Lane) -> None:
        """Enqueues copies of what the turn left, and retires who is done."""
        device, steps = lane.device, lane.steps
        ends: list[tuple[Part, NDArray[np.float32]]] = []
        seen = [
            (part, self._done(part.job, steps), self._preview(lane, part))
            for part in self._watched.values()
        ]
        while self._ends and self._ends[0][0] <= steps:
            part = heapq.heappop(self._ends)[2]
            if not part.job.over:
                ends.append((part, device.download(lane.states(part.admission))))
        owners = self._who() if device.ahead else None
        flags = device.download(lane.slots.flags)
        self._looks.append(Look(steps, flags, owners, ends, seen, device.mark()))
        if not device.ahead:
            self._report()  # before the slots are others'
        for part, _ in ends:
            self._retire(lane, part)

    def _preview(self, lane: Lane, part: Part) -> NDArray[np.float32] | None:
        """The estimates of a part, where this step has a preview."""
        every, step = part.job.previews, part.step_at(lane.steps)
        if not every or (step % every and step != part.job.calls):
            return None
        return lane.device.download(lane.estimates(part.admission))

    def _report(self) -> None:
        """Tells what the oldest look says."""
        look = self._looks.popleft()
        try:
            look.mark.wait()
        except Exception as error:
            for part, _ in look.ends:
                part.job.fail(_lost(error))
            raise
        if np.count_nonzero(look.flags):
            self._fail_non_finite(look)
        for part, done, x0 in look.seen:
            self._tell(part, part.step_at(look.steps), done, x0)
        for part, states in look.ends:
            job = part.job
            if job.over:
                continue
            job.work.store(part.first, states, self._shape)
            if job.work.ended == job.n:
                self._finish(job)

    def _who(self) -> list[tuple[Part, NDArray[np.intp]]]:
        """Who has which slots now; kept until that changes."""
        if self._owners is None:
            self._owners = [(p, p.admission.slots) for parts in self._parts.values() for p in parts]
        return self._owners

    def _fail_non_finite(self, look: Look) -> None:
        for part, slots in self._who() if look.owners is None else look.owners:
            bad = np.flatnonzero(look.flags[slots])
            if not len(bad) or part.job.over:
                continue
            names = ", ".join(str(part.first + int(k)) for k in bad[:8])
            part.job.fail(
                NonFiniteError(
                    f"the network gave NaN or infinity by step {part.step_at(look.steps)} of "
                    f"{part.job.calls}, for sample {names}{' ...' if len(bad) > 8 else ''}: ",
                    part.job.work.run.advice,
                )
            )

    def _done(self, job: Job, steps: int) -> int:
        """Steps that all samples of a job have done together, when the lane has done ``steps``.

        Of those that have had a slot and left it, all: their states may not be here yet.
        """
        here = [(len(p.admission.slots), p.step_at(steps)) for p in self._parts.get(job, ())]
        left = job.work.admitted - sum(count for count, _ in here)
        return left * job.calls + sum(count * min(step, job.calls) for count, step in here)

    def _tell(self, part: Part, step: int, done: int, x0: NDArray[np.float32] | None) -> None:
        job = part.job
        if job.over:
            return
        estimates = None if x0 is None else x0.reshape(-1, *self._shape).copy()
        job.tell(Progress(done, job.n * job.calls, step, job.calls, part.first, estimates))

    def _finish(self, job: Job) -> None:
        """All samples are there; a decoder runs beside the steps of others."""
        assert job.work.x is not None
        if not job.work.run.decodes:
            self._complete(job)
            return
        if self._decoders is None:
            self._decoders = ThreadPoolExecutor(1, thread_name_prefix="revstep-decode")
        with self._idle:
            self._undecoded += 1
        try:
            self._decoders.submit(self._decode, job)
        except RuntimeError:  # the interpreter ends, and begins nothing more
            job.fail(ServiceClosedError("the process ended before this was decoded"))

    def _decode(self, job: Job) -> None:
        with self._idle:
            self._undecoded -= 1
        if not job.over:  # nobody wants it then
            self._complete(job)

    def _complete(self, job: Job) -> None:
        work = job.work
        assert work.x is not None
        try:
            samples = work.run.samples(work.x, work.batch)
        except BaseException as error:  # an exit too would leave it without an end
            job.fail(error)
            return
        job.complete(samples)

    def _fail_all(self, error: BaseException) -> None:
        """Fails every job that is there."""
        self._take(block=False)
        ended = [part.job for look in self._looks for part, _ in look.ends]
        jobs = [*ended, *self._parts, *(job for _, _, job in self._waiting)]
        self._looks.clear()
        self._drop_parts()
        self._waiting.clear()
        self._deadlines.clear()
        for job in jobs:
            job.fail(_lost(error))


class _Stopped(Exception):  # noqa: N818  (nothing is wrong)
    """The service was closed while its thread waited for a lane."""


def _lost(error: BaseException) -> Exception:
    """The error for one job: each raises its own, as a traceback grows with every raise."""
    if isinstance(error, ServiceClosedError):
        return ServiceClosedError(str(error))
    found = BackendError(f"a network call that this request was in failed: {error}")
    found.__cause__ = error
    return found


def _is_over(one: Job | weakref.ref[Job]) -> bool:
    job = one() if isinstance(one, weakref.ref) else one
    return job is None or job.over


Waits = TypeVar("Waits", Job, "weakref.ref[Job]")


def _without_ended(
    heap: list[tuple[float, int, Waits]], enough: int
) -> list[tuple[float, int, Waits]]:
    """The heap; without the jobs that have ended, once it has grown beyond ``enough`` and some."""
    if len(heap) <= enough + SPARE:
        return heap
    left = [entry for entry in heap if not _is_over(entry[2])]
    heapq.heapify(left)
    return left
