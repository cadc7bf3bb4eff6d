"""One cell measured: right first, then timed in rounds, with all that a reader must know."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from revstep.bench.example import example_conditions
from revstep.bench.measure.cell import Cell
from revstep.bench.measure.correct import check_engine
from revstep.bench.measure.disturbance import disturbance, read_counters
from revstep.bench.measure.engines import asked
from revstep.bench.measure.memory import held, peaks, reset_peaks
from revstep.bench.measure.rounds import Budget, Progress, Rounds, Task, run_rounds
from revstep.bench.measure.summary import LookedInto, cost_of, split_of, summary_of
from revstep.engine.bundle.reader import Bundle
from revstep.engine.engine import Engine
from revstep.engine.runtime.watch import Timing

OURS = "revstep"
SPLIT_EVERY = 8  # rounds: a run that is looked into takes longer, and isn't counted
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
    def on_gpu(self) -> bool:
        """Whether the network runs on a GPU."""
        return str(self.engine.describe()["device"]).startswith("cuda")

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
class Measured:
    """A cell's figures, and the seconds of each task's rounds.

    Attributes:
        work: What ran.
        rounds: The times; the first task's are the engine's.
        tasks: The tasks' names.
        figures: As a row has them.
    """

    work: Work
    rounds: Rounds
    tasks: tuple[str, ...]
    figures: dict[str, Any]


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

    reset_peaks(work.on_gpu)
    held_before = held()
    before = read_counters(work.on_gpu)
    found = run_rounds(tasks, budget, between=between, progress=progress)
    after = read_counters(work.on_gpu)
    memory = {**peaks(work.on_gpu), "host_before_bytes": held_before}
    ours = found.times[0]
    summary = summary_of(ours, work.network_calls, cell.batch)
    split = split_of(inside[first:] or inside, summary["step_s"], on_gpu=work.on_gpu)
    figures = {
        "cell": {**cell.to_dict(), "network_calls": work.network_calls},
        "bundle": _named(bundle),
        "engine": engine.describe(),
        "correct": correct,
        "stopped": found.stopped,
        "warm_ups": found.warm_ups,
        "summary": summary,
        "split": split,
        "memory": memory,
        "cost": cost_of(summary, price),
        "disturbance": disturbance(before, after, summary["spread"]),
        "times_s": dict(zip((task.name for task in tasks), found.times, strict=True)),
    }
    return Measured(work, found, tuple(task.name for task in tasks), figures)


def _named(bundle: Bundle) -> dict[str, str]:
    return {"name": Path(bundle.path).name, "digest": str(bundle.manifest["digest"])}
