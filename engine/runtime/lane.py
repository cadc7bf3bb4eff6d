"""A lane: samples that step together, through the same network calls: admit, step, retire.

Samples may come and go between any two steps, each with its own program: a slot has its own
program counter. ``Engine.sample`` admits a batch and steps until it is done; ``Service`` admits,
steps and retires many requests beside each other.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.devices.protocol import Device, Graphs, RunsSteps
from revstep.engine.errors import CapacityError
from revstep.engine.program.table import StepProgram
from revstep.engine.runtime.arena import ProgramArena
from revstep.engine.runtime.batch import Batch
from revstep.engine.runtime.buckets import MAX_PROGRAM_ROWS, bucket_for, smaller_buckets
from revstep.engine.runtime.places import Places
from revstep.engine.runtime.prepared import Capture, Prepared
from revstep.engine.runtime.slots import Slots, copied
from revstep.engine.runtime.watch import Clock
from revstep.kernels import columns as col
from revstep.kernels.layout import HISTORY_TIERS, Array


@dataclasses.dataclass(slots=True, eq=False)
class Admission:
    """Samples that were admitted together.

    Attributes:
        program: Their program.
        slots: Their slots (B,), ascending.
        rows: Their network rows, ascending: of the conditional halves (B,), then of the
            unconditional ones.
        where: The slots, as an index of the device's arrays.
        guided: Which of the samples have an unconditional row.
        reach: Network rows of a call while they are here, at least.
        begun: The lane's ``steps`` when they came.
        x0: Whether their denoised estimates are read.
        inpaint: Whether they have known pixels.
        cond_at: The rows of the conditional halves, as an index of the device's arrays.
        uncond_at: Those of the unconditional ones; None: no sample is guided.
        base: The program's first table row.
        fields: Of the slots, where they came alone.
        needs: What their steps need; see ``Lane.prepare``.
    """

    program: StepProgram
    slots: NDArray[np.intp]
    rows: NDArray[np.intp]
    where: slice | Array
    guided: NDArray[np.intp]
    reach: int
    begun: int
    x0: bool
    inpaint: bool
    cond_at: slice | Array
    uncond_at: slice | Array | None
    needs: tuple[int, int, bool, bool]
    base: int = 0
    fields: NDArray[np.int32] | None = None


class Lane:
    """Buffers, programs and prepared steps on one device, which is in use. One thread at a time.

    Args:
        denoiser: The network.
        buckets: Network rows of each bucket, ascending; so many slots it has too.
        device: The device.
        network: The buffers of the largest bucket.
        graphs: Captures steps; None: every step is enqueued call by call.
        unroll: Run lengths that get a graph of the whole run.
        program_rows: The arena's capacity.
        arena_grows: Whether that is only its first one.

    Attributes:
        buckets, device, unroll: As given.
        arena: The programs.
        slots: The samples' places.
        capture: What became of the graphs.
        steps: Steps so far.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        buckets: Sequence[int],
        device: Device,
        network: NetworkBuffers,
        *,
        graphs: Graphs | None = None,
        unroll: Collection[int] = (),
        program_rows: int = MAX_PROGRAM_ROWS,
        arena_grows: bool = False,
    ) -> None:
        self.buckets = tuple(buckets)
        self.device = device
        self.unroll = frozenset(unroll)
        self.capture = Capture(device, graphs)
        self.steps = 0
        self._denoiser = denoiser
        self._network = network
        self._residents: dict[int, Admission] = {}  # id -> admission, oldest first
        self._needs: Counter[tuple[int, int, bool, bool]] = Counter()
        self._slots_taken = Places(self.buckets[-1])
        self._rows_taken = Places(self.buckets[-1])
        self._prepared: dict[tuple[int, int, bool, bool], Prepared] = {}
        self._bound: dict[int, Callable[[], None]] = {}
        self._current: Prepared | None = None
        self._calls: tuple[Callable[[], object], ...] = ()
        self._every = np.arange(self.buckets[-1])
        self._net_x = network.x.reshape(self.buckets[-1], -1)
        self.arena = ProgramArena(device, program_rows, grows=arena_grows)
        self._table = self.arena.table
        self.slots = Slots(denoiser.spec, self.buckets[-1], device)

    def admit(
        self, program: StepProgram, batch: Batch, *, x0: bool = False, lowest_rows: int = 1
    ) -> Admission:
        """Gives the batch's samples slots and network rows; they step from the next step on.

        Args:
            program: The program of all of them.
            batch: The samples; of any guidance.
            x0: Whether their estimates will be read (``estimates``).
            lowest_rows: Network rows that calls have at least while they are here.

        Raises:
            CapacityError: No room for the samples or the program beside those that are here.
            DeviceMemoryError: Not enough memory.
            ValueError: More network rows than the largest bucket.
        """
        slots, rows = self._free(batch.n, batch.rows)
        reach = max(lowest_rows, int(rows[-1]) + 1, int(slots[-1]) + 1)
        guided, inpaint = batch.guided, batch.mask is not None
        new = Admission(
            program=program, slots=slots, rows=rows, where=self._index(slots), guided=guided,
            reach=reach, begun=self.steps, x0=x0, inpaint=inpaint,
            cond_at=self._index(rows[: batch.n]),
            uncond_at=self._index(rows[batch.n :]) if len(guided) else None,
            needs=(lowest_rows, program.history, x0, inpaint),
        )  # fmt: skip
        fed = 0 if self._current is None else self._current.rows
        new.base = self.arena.acquire(program)
        self._enter(new)
        try:
            current = self._choose()
            alone = len(self._residents) == 1
            fields = self.slots.place(
                new.where,
                batch,
                cond_rows=rows[: batch.n],
                uncond_rows=rows[batch.n :],
                program=program,
                base=new.base,
                clear=alone,
            )
            new.fields = fields if alone else None
            self._start(new, batch)
            self._fill(new, batch, slice(max(fed, int(rows[-1]) + 1), current.rows))
        except BaseException:
            self.retire(new)
            raise
        return new

    def again(
        self, program: StepProgram, batch: Batch, *, x0: bool = False, lowest_rows: int = 1
    ) -> Admission | None:
        """Begins those who are here anew with another batch of their form, as ``admit`` would.

        None, and nothing is done, where they are of another form, or not alone.
        """
        if len(self._residents) != 1 or self._current is None:
            return None
        (here,) = self._residents.values()
        guided, inpaint = batch.guided, batch.mask is not None
        alike = (
            here.program is program
            and len(here.slots) == batch.n
            and len(here.guided) == len(guided)
            and (here.x0, here.inpaint) == (x0, inpaint)
            and here.reach == max(lowest_rows, len(here.rows))
            and (not len(guided) or bool((here.guided == guided).all()))
        )
        if not alike or here.fields is None:
            return None
        here.begun = self.steps
        self.slots.begin_again(here.fields, batch)
        self._start(here, batch)
        self._fill(here, batch, slice(len(here.rows), self._current.rows))
        return here

    def run(self, count: int) -> int:
        """Enqueues ``count`` steps, or fewer: a host ends at a network output that isn't finite.

        Gives how many it enqueued.
        """
        assert self._current is not None
        done = self._current.run(count)
        self.steps += done
        return done

    def step(self, clock: Clock | None = None) -> None:
        """Enqueues one step of all that are here; call by call with a clock.

        After an error of the network all who are here have lost a step: retire them.
        """
        self.steps += 1
        if clock is not None and self._current is not None:
            clock.run(self._current.parts)
        else:
            for call in self._calls:
                call()

    def run_unrolled(self, admission: Admission) -> int:
        """Enqueues the whole run as one graph, where there is one; gives its steps, else 0."""
        length = admission.program.length
        if length not in self.unroll or self._current is None or len(self._residents) > 1:
            return 0
        graph = self.capture.run(self._current, length)
        if graph is None:
            return 0
        self.steps += length
        graph.replay()
        return length

    def done(self, admission: Admission) -> bool:
        """Whether all their steps were enqueued; further ones change nothing."""
        return self.steps - admission.begun >= admission.program.length

    def states(self, admission: Admission) -> Array:
        """Their states (B, D), float32, on the device."""
        return self.slots.x[admission.where]

    def estimates(self, admission: Admission) -> Array:
        """Their denoised estimates (B, D) of the last step, float32, on the device."""
        return self.slots.x0[admission.where]

    def flags(self, admission: Admission) -> Array:
        """(B,), on the device: not 0 where the network's output was not finite."""
        return self.slots.flags[admission.where]

    def retire(self, admission: Admission) -> None:
        """Frees their slots and rows, done or not; what was read of them must be copied before."""
        if id(admission) not in self._residents:
            raise ValueError("these samples are not here: they were retired before")
        alone = len(self._residents) == 1  # whoever comes next writes all slots and rows
        if not alone:  # first, so that they stay known where the device fails
            self.slots.clear(admission.where, len(admission.slots))
            self._net_x[admission.cond_at] = 0.0
            if admission.uncond_at is not None:
                self._net_x[admission.uncond_at] = 0.0
        self._leave(admission)
        self.arena.release(admission.program)
        if alone:
            self._current, self._calls = None, ()
            return
        # making a smaller step would keep the others waiting: the larger one goes on
        if (smaller := self._prepared.get(self._key(*self._needed()))) is not None:
            self._current, self._calls = smaller, smaller.calls

    def empty(self) -> None:
        """Retires all who are here: whom an interrupt left behind, where one run has the lane."""
        for here in tuple(self._residents.values()):
            self.retire(here)

    @property
    def taken(self) -> tuple[int, int]:
        """Slots and network rows of all who are here."""
        return len(self._slots_taken), len(self._rows_taken)

    @property
    def rows(self) -> int:
        """Network rows of a call now; 0: nobody is here."""
        return 0 if self._current is None else self._current.rows

    def compact(self) -> bool:
        """Moves who is here into fewer network rows, where a smaller bucket then holds all.

        Between steps; their bits may change as in any other bucket.
        """
        fed = self.rows
        if fed == self.buckets[0] or not fed:
            return False
        lowest = max(needs[0] for needs in self._needs)
        rows = bucket_for(self.buckets, max(lowest, *self.taken))
        if rows >= fed:
            return False
        for here in self._residents.values():
            if int(here.slots[-1]) >= rows or int(here.rows.max()) >= rows:
                self._move(here, rows)
        self._choose()
        return True

    def trim(self, limit: int) -> None:
        """Lets go of the states, where they take more than ``limit`` bytes, and of who is here."""
        if self.slots.state_bytes > limit:
            self.empty()
            self._prepared.clear()
            self.slots = Slots(self._denoiser.spec, self.buckets[-1], self.device)

    def warm_up(self, rows: int) -> None:
        """Prepares a bucket and calls its network once, for nobody, so that no request waits."""
        prepared = self.prepare(rows)
        with self.slots.all_idle():
            prepared.warm_up(self.device, 1)

    def prepare(
        self, rows: int, history: int = 0, x0: bool = False, inpaint: bool = False
    ) -> Prepared:
        """The steps of a bucket; made, warmed up and captured when first asked for.

        Args:
            rows: The bucket.
            history: Arrays of history that the programs need.
            x0: Whether steps write the denoised estimate out.
            inpaint: Whether steps write known pixels into the state.

        Raises:
            DeviceMemoryError: Not enough memory.
        """
        if self._table is not self.arena.table:  # it has grown
            self._prepared, self._table = {}, self.arena.table
        key = self._key(rows, history, x0, inpaint)
        if key not in self._prepared:
            fix = smaller_buckets(self.buckets, rows)
            with self.device.memory_named(f"preparing {rows} network rows", fix):
                self._prepared[key] = self._make(*key)
        return self._prepared[key]

    @staticmethod
    def _key(rows: int, history: int, x0: bool, inpaint: bool) -> tuple[int, int, bool, bool]:
        return rows, HISTORY_TIERS[bisect_left(HISTORY_TIERS, history)], x0, inpaint

    def _free(self, samples: int, rows: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The first free slots and network rows."""
        bucket_for(self.buckets, rows)  # refuses what can never have room
        every = self._every
        if not self._residents:
            return every[:samples], every[:rows]
        slots, free = (len(every) - taken for taken in self.taken)
        if slots < samples or free < rows:
            raise CapacityError(
                f"{samples} samples of {rows} network rows find no room beside those that are "
                f"here: {slots} slots and {free} rows of {len(every)} are free; admit them when "
                "others have been retired"
            )
        return self._slots_taken.lowest_free(samples), self._rows_taken.lowest_free(rows)

    def _enter(self, new: Admission) -> None:
        self._residents[id(new)] = new
        self._needs[new.needs] += 1
        self._slots_taken.take(new.slots)
        self._rows_taken.take(new.rows)

    def _leave(self, here: Admission) -> None:
        del self._residents[id(here)]
        self._needs[here.needs] -= 1
        if not self._needs[here.needs]:
            del self._needs[here.needs]
        self._slots_taken.free(here.slots)
        self._rows_taken.free(here.rows)

    def _move(self, here: Admission, below: int) -> None:
        """Gives an admission other slots and rows, all below ``below``; there is room."""
        old_slots, old_rows = here.slots, here.rows
        here.slots = self._slots_taken.move_below(old_slots, below)
        here.rows = self._rows_taken.move_below(old_rows, below)
        n = len(here.slots)
        self.slots.move(
            self._index(old_slots),
            self._index(here.slots),
            cond_rows=here.rows[:n],
            uncond_rows=here.rows[n:],
            guided=here.guided,
        )
        source, target = self._index(old_rows), self._index(here.rows)
        for buffer in (self._net_x, *self._network.conditions.values()):
            buffer[target] = copied(buffer[source])  # they may overlap
        here.where = self._index(here.slots)
        here.cond_at = self._index(here.rows[:n])
        here.uncond_at = self._index(here.rows[n:]) if len(here.guided) else None
        here.reach = max(here.needs[0], int(here.rows.max()) + 1, int(here.slots[-1]) + 1)
        here.fields = None

    def _choose(self) -> Prepared:
        """Takes the prepared step that all who are here need."""
        current = self.prepare(*self._needed())
        self._current, self._calls = current, current.calls
        return current

    def _needed(self) -> tuple[int, int, bool, bool]:
        """What ``prepare`` is asked for by all who are here."""
        rows = max(1, self._slots_taken.reach, self._rows_taken.reach)
        history, x0, inpaint = 0, False, False
        for lowest, of_program, reads_x0, has_known in self._needs:  # few, of however many
            rows, history = max(rows, lowest), max(history, of_program)
            x0, inpaint = x0 or reads_x0, inpaint or has_known
        return bucket_for(self.buckets, rows), history, x0, inpaint

    def _start(self, here: Admission, batch: Batch) -> None:
        """Writes initial states, the network's first inputs, and conditions."""
        upload, program = self.device.upload, here.program
        x = self.slots.start(here.where, batch, program.start)
        c_in = float(program.table[0, col.C_IN])
        scaled = x if c_in == 1.0 else x * c_in
        self._feed(here.cond_at, scaled)
        for name, buffer in self._network.conditions.items():
            buffer[here.cond_at] = upload(batch.conditions[name])
        if here.uncond_at is not None:
            guided = here.guided
            self._feed(here.uncond_at, scaled[self._index(guided)])
            for name, buffer in self._network.conditions.items():
                buffer[here.uncond_at] = upload(batch.null_conditions[name][guided])

    def _feed(self, rows: slice | Array, x: Array) -> None:
        """Writes float32 states into rows of the network's input, in its dtype."""
        if isinstance(rows, slice):
            self._net_x[rows] = x
        else:  # torch takes back its dtype alone
            inputs = self._net_x[rows]
            inputs[:] = x
            self._net_x[rows] = inputs

    def _fill(self, new: Admission, batch: Batch, spare: slice) -> None:
        """Gives rows to spare zeros, the first null conditions, and valid times."""
        if spare.start >= spare.stop:
            return
        self._net_x[spare] = 0.0
        self._network.t[spare] = float(new.program.table[0, col.TIME])
        if self._network.second is not None:
            self._network.second[spare] = float(new.program.table[0, col.TIME_2])
        for name, buffer in self._network.conditions.items():
            buffer[spare] = self.device.upload(batch.null_conditions[name][:1])

    def _index(self, indices: NDArray[np.intp]) -> slice | Array:
        """Ascending indices as what indexes an array of the device: a slice where they are one."""
        first, last = int(indices[0]), int(indices[-1])
        if last - first == len(indices) - 1:
            return slice(first, last + 1)
        return self.device.upload(indices.astype(np.int64))

    def _make(self, rows: int, history: int, x0: bool, inpaint: bool) -> Prepared:
        new = rows not in self._bound
        network = self._network.first(rows)
        call = self._denoiser.bind(network) if new else self._bound[rows]
        with self.slots.all_idle():  # the new step runs for nobody
            buffers = self.slots.step_buffers(self.arena.table, network, history, x0, inpaint)
            step = self.device.prepare(buffers)
            many = step.steps if isinstance(step, RunsSteps) else None
            prepared = Prepared(network, (step.begin, call, step.step), many)
            if self.device.warm_ups:
                prepared.warm_up(self.device, self.device.warm_ups if new else 1)
            self._bound[rows] = call
            self.capture.step(prepared)
        return prepared
