"""One cell measured: right first, then timed in rounds, of one opening of its engine or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from revstep.bench.described import without_place
from revstep.bench.example import example_conditions
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.correct import check_engine
from revstep.bench.measure.disturbance import (
    Reading,
    disturbance,
    from_first_to_last,
    read_counters,
)
from revstep.bench.measure.engines import asked
from revstep.bench.measure.memory import held, peaks, reset_peaks
from revstep.bench.measure.rounds import Budget, Progress, Rounds, Stopped, Task, run_rounds
from revstep.bench.measure.summary import LookedInto, cost_of, split_of, summary_of
from revstep.engine.bundle.reader import Bundle
from revstep.engine.engine import Engine
from revstep.engine.runtime.watch import Timing

OURS = "revstep"
SPLIT_EVERY = 7  # rounds: a run that is looked into takes longer, and isn't counted.
# A prime above the number of tasks, so that each is as often the first after such a run.
FIRST_SPLITS = 3  # of the warm-up, at most: a short measurement has some too


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """What a cell runs, and what others run beside it.

    Attributes:
        bundle: The bundle.
        cell: The cell.
        engine: Its engine.
        arguments: Of ``Engine.sample`` in every run, beside the seed: made once, as callers do.
        network_calls: Of one run.
    """

    bundle: Bundle
    cell: Cell
    engine: Engine
    arguments: dict[str, Any]
    network_calls: int

    @classmethod
    def of(cls, bundle: Bundle, cell: Cell, engine: Engine) -> Work:
        """The work of a cell; raises as ``Engine.sample``: it runs once."""
        arguments = asked(cell, example_conditions(engine, cell.batch))
        timing = Timing()
        engine.sample(cell.batch, **arguments, seed=0, timing=timing)
        return cls(bundle, cell, engine, arguments, len(timing.network_ns))

    @property
    def gpu(self) -> int | None:
        """CUDA's number of the GPU that the network runs on; None: a CPU."""
        kind, _, number = str(self.engine.describe()["device"]).partition(":")
        return int(number or 0) if kind == "cuda" else None

    @property
    def on_gpu(self) -> bool:
        """Whether the network runs on a GPU."""
        return self.gpu is not None

    def sample(self, seed: int) -> NDArray[Any]:
        """One run of the engine: the samples."""
        return self.engine.sample(self.cell.batch, **self.arguments, seed=seed).x

    def looked_into(self) -> LookedInto:
        """One run with a clock inside."""
        timing, begun = Timing(), perf_counter()
        self.engine.sample(self.cell.batch, **self.arguments, seed=0, timing=timing)
        return LookedInto(perf_counter() - begun, timing)


Others = Callable[[Work], Sequence[Task]]
"""What takes turns with the engine's runs: tasks of the same work."""


@dataclasses.dataclass(frozen=True, slots=True)
class Opening:
    """What was measured of sides that were opened once; it holds none of them.

    Attributes:
        tasks: Their names; the first is the engine's.
        rounds: The times of each.
        engine: What the engine says of itself.
        network_calls: Of a run.
        correct: The engine's error and its bound.
        on_gpu: Whether the network runs on a GPU.
        inside: Runs that were looked into, of the warm-up only where there are no others.
        memory: Peaks of the rounds, and what the process held before.
        readings: What else the machine did, before the rounds and after.
    """

    tasks: tuple[str, ...]
    rounds: Rounds
    engine: dict[str, object]
    network_calls: int
    correct: dict[str, float]
    on_gpu: bool
    inside: tuple[LookedInto, ...]
    memory: dict[str, int | None]
    readings: tuple[Reading, Reading]

    @property
    def told(self) -> dict[str, Any]:
        """What a row says of it alone."""
        spread = summary_of(self.rounds.times[0], self.network_calls, 1)["spread"]
        return {
            "runs": len(self.rounds.times[0]),
            "stopped": self.rounds.stopped,
            "disturbance": disturbance(*self.readings, spread)["verdict"],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """A cell's figures, and the seconds of each task's rounds.

    Attributes:
        work: What ran last, still open; None: Ctrl-C came while nothing was.
        openings: In their order.
        stopped: Why it ended.
        figures: As a row has them.
    """

    work: Work | None
    openings: tuple[Opening, ...]
    stopped: Stopped
    figures: dict[str, Any]

    @property
    def starts(self) -> dict[str, list[list[float]]]:
        """Seconds of each task, a list for every opening."""
        names = self.openings[0].tasks
        return {n: [each.rounds.times[i] for each in self.openings] for i, n in enumerate(names)}


def measure_cell(
    bundle: Bundle,
    cell: Cell,
    engine: Engine,
    budget: Budget,
    *,
    price: float | None = None,
    others: Others | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Checks the engine against the bundle's reference, then measures the cell.

    Args:
        bundle: The bundle.
        cell: What to run.
        engine: Its engine.
        budget: When it ends.
        price: Of the machine, an hour.
        others: What takes turns with it.
        progress: As of ``run_rounds``.

    Raises:
        ParityError: The engine is wrong: nothing is timed.
        ArgumentError: As ``Engine.sample``.
    """
    opening, work = measure_opening(bundle, cell, engine, budget, others, progress)
    return measured_of(bundle, cell, [opening], work, opening.rounds.stopped, price)


def measure_opening(
    bundle: Bundle,
    cell: Cell,
    engine: Engine,
    budget: Budget,
    others: Others | None = None,
    progress: Progress | None = None,
) -> tuple[Opening, Work]:
    """One opening of the sides, and what its engine ran; takes and raises as ``measure_cell``."""
    correct = check_engine(engine, bundle, cell)
    work = Work.of(bundle, cell, engine)
    tasks = [Task(OURS, work.sample), *(others(work) if others is not None else ())]
    inside, begun = [work.looked_into()], perf_counter()
    while len(inside) < FIRST_SPLITS and perf_counter() - begun < budget.warm_up:
        inside.append(work.looked_into())
    first = len(inside)

    def between(number: int) -> None:
        if number % SPLIT_EVERY == 0:
            inside.append(work.looked_into())

    reset_peaks(work.gpu)
    held_before = held()
    before = read_counters(work.gpu)
    found = run_rounds(tasks, budget, between=between, progress=progress)
    after = read_counters(work.gpu)
    opening = Opening(
        tasks=tuple(task.name for task in tasks),
        rounds=found,
        engine=without_place(engine.describe()),
        network_calls=work.network_calls,
        correct=correct,
        on_gpu=work.on_gpu,
        inside=tuple(inside[first:] or inside),
        memory={**peaks(work.gpu), "host_before_bytes": held_before},
        readings=(before, after),
    )
    return opening, work


def measured_of(
    bundle: Bundle,
    cell: Cell,
    openings: Sequence[Opening],
    work: Work | None,
    stopped: Stopped,
    price: float | None,
) -> Measured:
    """What is said of all runs of all openings, one at least.

    Args:
        bundle: The bundle.
        cell: What ran.
        openings: In their order.
        work: What ran last, if it is still open.
        stopped: Why it ended.
        price: Of the machine, an hour.
    """
    first, last = openings[0], openings[-1]
    times = {
        name: [value for each in openings for value in each.rounds.times[index]]
        for index, name in enumerate(first.tasks)
    }
    summary = summary_of(times[OURS], first.network_calls, cell.batch)
    readings = from_first_to_last([each.readings for each in openings])
    inside = [run for each in openings for run in each.inside]
    figures: dict[str, Any] = {
        "cell": {**cell.to_dict(), "network_calls": first.network_calls},
        "bundle": _named(bundle),
        "engine": last.engine,
        "correct": max((each.correct for each in openings), key=lambda found: found["error"]),
        "stopped": stopped,
        "warm_ups": sum(each.rounds.warm_ups for each in openings),
        "openings": [each.told for each in openings],
        "summary": summary,
        "split": split_of(inside, summary["step_s"], on_gpu=first.on_gpu),
        "memory": _most([each.memory for each in openings]),
        "cost": cost_of(summary, price),
        "disturbance": disturbance(*readings, summary["spread"]),
        "times_s": times,
    }
    return Measured(work, tuple(openings), stopped, figures)


def _most(memories: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The highest of each peak; what was held before the first."""
    first, last = memories[0], memories[-1]
    highest = {
        name: max((each[name] or 0 for each in memories), default=0) or None
        for name in ("host_bytes", "device_bytes")
    }
    return {**last, **highest, "host_before_bytes": first["host_before_bytes"]}


def _named(bundle: Bundle) -> dict[str, str]:
    return {"name": Path(bundle.path).name, "digest": str(bundle.manifest["digest"])}
