"""The candidates that take part: how they come in, are timed, and drop out."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence

from revstep.export.targets.cpu.candidate import SLOWER, Candidate, Refused, Trial
from revstep.export.targets.cpu.protocol import Plan, Track
from revstep.export.targets.cpu.timing import WITHIN

FAR = 1.5  # times as slow as the fastest, by the best block of each: out at once
SHORTEST = 0.02  # seconds of a block


class Field:
    """All candidates of a search.

    Args:
        plan: The search's plan.
        track: Where they run.

    Attributes:
        plan: The plan.
        track: The track.
        trials: Every candidate that was tried or passed over, in order; the default comes first.
        spent: Seconds of timing so far.
        round: The number of the next turns.
    """

    def __init__(self, plan: Plan, track: Track) -> None:
        self.plan = plan
        self.track = track
        self.trials: dict[Candidate, Trial] = {}
        self.spent = 0.0
        self.round = 0
        self._looks = 0

    def default(self) -> Trial:
        """What runs where nothing was measured: it stays open to the end."""
        return next(iter(self.trials.values()))

    def proven(self, *precisions: str) -> list[Trial]:
        """Those that have passed all checks, in these precisions."""
        return [t for t in self.trials.values() if t.proven and t.candidate.precision in precisions]

    def running(self, precision: str | None = None) -> list[Trial]:
        """Those that are open, in that precision or any."""
        return [
            t for t in self.trials.values()
            if t.proven and t.status is None and precision in (None, t.candidate.precision)
        ]  # fmt: skip

    def enter(self, candidate: Candidate) -> Trial:
        """Opens a candidate, times it once, and proves it unless it is far behind."""
        trial = self.trials[candidate] = Trial(candidate)
        with self._refusing(trial):
            trial.version, trial.parity = self.track.open(candidate)
            self._look(trial)
            if self._is_out(trial):
                self.drop(trial, "far behind; its whole run was not checked")
            else:
                trial.parity = {**trial.parity, **self.track.prove(candidate)}
                trial.proven = True
        return trial

    def thin_out(self) -> None:
        """Drops those that are far behind, and the slowest beyond what may stay open."""
        for trial in self._others():
            with self._refusing(trial):
                if self._is_out(trial):
                    self.drop(trial, "far behind")
        # a first look can't tell apart what is closer than that: the simpler one stays
        steps = {id(t): round(math.log(self.behind(t), 1 + WITHIN)) for t in self._others()}
        ranked = sorted(self._others(), key=lambda t: (steps[id(t)], t.candidate.simplicity))
        for trial in ranked[self.plan.alive :]:
            self.drop(trial, "behind, and no more are kept open")

    def behind(self, trial: Trial) -> float:
        """Times as slow as the fastest of its precision, at the rows where that is the least."""
        others = self.running(trial.candidate.precision)
        return min(trial.best(n) / min(o.best(n) for o in others) for n in self.plan.rows)

    def turns(self, racers: Sequence[Trial], rows: int, seconds: float = SHORTEST) -> None:
        """A block each, about that long, of those that run; another is first in every round."""
        shift = self.round % max(1, len(racers))
        for trial in (*racers[shift:], *racers[:shift]):
            if trial.status is None:
                with self._refusing(trial):
                    self._time(trial, rows, self.round, max(SHORTEST, seconds))

    def drop(self, trial: Trial, reason: str = "") -> None:
        """Ends it, unless it is the default."""
        if trial is not self.default():
            trial.status, trial.reason = SLOWER, reason
            self.track.close(trial.candidate)

    def reopen(self, trial: Trial) -> None:
        """Opens one that was dropped."""
        if trial.status == SLOWER:
            trial.status, trial.reason = None, ""
            with self._refusing(trial):
                self.track.open(trial.candidate)

    def close(self) -> None:
        """Ends all."""
        for trial in self.running():
            self.track.close(trial.candidate)

    def _others(self) -> list[Trial]:
        return [t for t in self.running() if t is not self.default()]

    def _look(self, trial: Trial) -> None:
        """Times it once, in a round of its own."""
        self._looks += 1
        for rows in self.plan.rows:
            self._time(trial, rows, -self._looks, SHORTEST)

    def _is_out(self, trial: Trial) -> bool:
        """Whether it is far behind, and at another time still is: the machine has others to run."""
        if not self._far_behind(trial):
            return False
        self._look(trial)
        return self._far_behind(trial)

    def _far_behind(self, trial: Trial) -> bool:
        """Whether at every number of rows another of its precision is far faster."""
        others = self.running(trial.candidate.precision)
        return all(
            any(trial.best(rows) > FAR * other.best(rows) for other in others)
            for rows in self.plan.rows
        )

    def _time(self, trial: Trial, rows: int, number: int, seconds: float) -> None:
        block = self.track.time(trial.candidate, rows, seconds)
        self.spent += block.seconds
        trial.blocks.setdefault(rows, {})[number] = block

    @contextlib.contextmanager
    def _refusing(self, trial: Trial) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            trial.refuse(refused)
            self.track.close(trial.candidate)
