"""Which candidate is the fastest for each number of rows: who is tried, who drops out, who wins.

Every candidate is opened, checked and timed once; those far behind the fastest drop out. The others
take turns, a block of calls a round, in heats of one number of rows and one precision: who is
slower beyond noise drops out, and after a few rounds the slower half does. From the best rewritten
form each rewrite is left out in turn, and stays out where that costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from revstep.export.targets.cpu.candidate import BAD, NOT_TRIED, Candidate, Trial
from revstep.export.targets.cpu.choose import choose, relative
from revstep.export.targets.cpu.field import FAR, SHORTEST, Field
from revstep.export.targets.cpu.leave_out import leave_out
from revstep.export.targets.cpu.protocol import Plan, Report, Track
from revstep.export.targets.cpu.timing import MIN_ROUNDS, slower

WORSE = 1.15  # times as slow as with more threads: still fewer are not tried
HALVINGS = tuple(MIN_ROUNDS * n for n in (1, 2, 4))  # rounds after which the slower half goes
ROUNDS = 12  # that the time is meant for
LONGEST = 1.0  # seconds of a block
UNSETTLED = 2  # that race once more in a heat's finals


class Search:
    """A search on a track.

    Attributes:
        trials: Every candidate that was tried or passed over, in order.
    """

    def __init__(self, plan: Plan, track: Track, report: Report = lambda text, share: None) -> None:
        self._field = Field(plan, track)
        self._plan = plan
        self._report = report
        self._heats: dict[tuple[int, str], list[Trial]] = {}
        self._raced = 0  # rounds of the heats
        self.trials = self._field.trials

    def run(self) -> None:
        """Tries, races and thins out. Those that have passed all checks are ``proven`` then."""
        for number, family in enumerate(self._plan.families):
            self._try_family(family, number / len(self._plan.families) / 2)
        self._report("rewrites, one by one", 0.5)
        leave_out(self._field)
        self._form_heats()
        self._race(MIN_ROUNDS)
        while self._time_left() and any(len(heat) > 1 for heat in self._heats.values()):
            self._race(1)
        self._finals()
        self._across_precisions()
        self._field.close()

    def winner(self, rows: int, *precisions: str) -> Trial | None:
        """The fastest in those precisions; of those as fast, the simplest; None: none is proven."""
        best = (choose(self._field.proven(precision), rows) for precision in precisions)
        return choose([trial for trial in best if trial is not None], rows)

    def _try_family(self, family: tuple[str, str, tuple[str, ...]], share: float) -> None:
        """With all threads, then with fewer, until that is no use."""
        runtime, precision, rewrites = family
        best: dict[int, float] = {}
        no_use = ""
        for threads in self._plan.threads:
            one = Candidate(
                runtime=runtime, precision=precision, rewrites=rewrites, threads=threads
            )
            if no_use:
                self.trials[one] = Trial(one, NOT_TRIED, no_use)
                continue
            self._report(str(one), share)
            trial = self._field.enter(one)
            self._field.thin_out()
            if trial.status in BAD:
                no_use = f"{trial.status} with {threads} threads"
                continue
            own = {rows: trial.best(rows) for rows in self._plan.rows}
            if best and all(time > WORSE * best[rows] for rows, time in own.items()):
                no_use = f"slower with {threads} threads than with more"
            best = {rows: min(time, best.get(rows, math.inf)) for rows, time in own.items()}

    def _form_heats(self) -> None:
        """Those of the same rows follow each other, so that precisions are compared too."""
        for rows in self._plan.rows:
            for precision in dict.fromkeys(t.candidate.precision for t in self._field.running()):
                self._heats[rows, precision] = self._field.running(precision)

    def _race(self, rounds: int) -> None:
        """So many rounds of all heats; after them, who is slower drops out."""
        for _ in range(rounds):
            self._report("rounds", 0.5 + 0.5 * min(1.0, self._field.spent / self._plan.seconds))
            for (rows, _), racers in self._heats.items():
                self._field.turns(racers, rows, self._slice())
            self._field.round += 1
            self._raced += 1
            for heat, racers in self._heats.items():
                self._heats[heat] = _near(racers, heat[0])
        halving = self._raced in HALVINGS
        for heat, racers in self._heats.items():
            self._heats[heat] = _left(racers, heat[0], halving)
        racing = [t.candidate for racers in self._heats.values() for t in racers]
        for trial in self._field.running():
            if trial.candidate not in racing:
                self._field.drop(trial)

    def _slice(self) -> float:
        """Seconds of a block, so that the time that is left holds the rounds that are left."""
        blocks = max(1, ROUNDS - self._raced) * sum(len(h) for h in self._heats.values())
        left = max(0.0, self._plan.seconds - self._field.spent)
        return min(LONGEST, max(SHORTEST, left / max(1, blocks)))

    def _time_left(self) -> bool:
        return self._field.spent < self._plan.seconds

    def _finals(self) -> None:
        """The winners against the default, and against what looked faster in other rounds."""
        for rows, precision in self._heats:
            winner = self.winner(rows, precision)
            if winner is None:
                continue
            self._final([winner, *self._unsettled(winner, rows)], rows)

    def _across_precisions(self) -> None:
        """The winners of each precision against each other, which raced in heats of their own."""
        precisions = dict.fromkeys(precision for _, precision in self._heats)
        for rows in self._plan.rows:
            found = (self.winner(rows, precision) for precision in precisions)
            self._final([winner for winner in found if winner is not None], rows)

    def _final(self, racers: Sequence[Trial], rows: int) -> None:
        """A few rounds of these alone."""
        if len(racers) < 2:
            return
        for trial in self._field.running():
            if trial not in racers:
                self._field.drop(trial)
        for trial in racers:
            self._field.reopen(trial)
        for _ in range(MIN_ROUNDS):
            self._field.turns(racers, rows)
            self._field.round += 1

    def _unsettled(self, winner: Trial, rows: int) -> list[Trial]:
        """The default, and the best of those that were faster, but not in the winner's rounds."""
        default, precision = self._field.default(), winner.candidate.precision
        others = [
            t for t in self.trials.values()
            if t.proven and t is not winner and relative(t, winner, rows) is None
        ]  # fmt: skip
        faster = [
            t for t in others
            if t is not default and t.candidate.precision == precision
            and t.median(rows) < winner.median(rows)
        ]  # fmt: skip
        faster.sort(key=lambda t: t.median(rows))
        return [*(t for t in others if t is default), *faster[:UNSETTLED]]


def _near(racers: Sequence[Trial], rows: int) -> list[Trial]:
    """Those that still run and are not far behind the fastest."""
    racers = [t for t in racers if t.status is None]
    return [t for t in racers if t.best(rows) <= FAR * min(o.best(rows) for o in racers)]


def _left(racers: Sequence[Trial], rows: int, halving: bool) -> list[Trial]:
    """Those of a heat that are not slower beyond noise; of them the better half, but two, if so."""
    racers = sorted((t for t in racers if t.status is None), key=lambda t: t.median(rows))
    left = [t for t in racers if not slower(t.blocks[rows], racers[0].blocks[rows])]
    return left[: max(2, math.ceil(len(left) / 2))] if halving else left
