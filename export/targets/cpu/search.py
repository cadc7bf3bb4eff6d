"""Which candidate is the fastest for each number of rows: who is tried, who drops out, who wins.

Every candidate is opened, checked and timed once; those far behind the fastest drop out. The others
take turns, a block of calls a round, in heats of one number of rows and one precision: who is
slower beyond noise drops out, and after a few rounds the slower half does. From the best rewritten
form each rewrite is left out in turn, and stays out where that costs nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence

from revstep.export.targets.cpu.candidate import (
    BAD,
    NOT_TRIED,
    SLOWER,
    Candidate,
    Refused,
    Trial,
)
from revstep.export.targets.cpu.choose import choose
from revstep.export.targets.cpu.protocol import Plan, Report, Track
from revstep.export.targets.cpu.timing import MIN_ROUNDS, WITHIN, slower

FAR = 1.5  # times as slow as the fastest, by the fastest call of each: out at once
WORSE = 1.15  # times as slow as with more threads: still fewer are not tried
CLOSE = 1.25  # times as slow as the fastest: its rewrites are still looked at one by one
DUELS = 300  # blocks of the whole time: that is how long one is where a rewrite is left out
HALVINGS = tuple(MIN_ROUNDS * n for n in (1, 2, 4))  # rounds after which the slower half goes
ROUNDS = 12  # that the time is meant for
SHORTEST, LONGEST = 0.02, 1.0  # seconds of a block


class Search:
    """A search on a track.

    Attributes:
        trials: Every candidate that was tried or passed over, in order.
    """

    def __init__(self, plan: Plan, track: Track, report: Report = lambda text, share: None) -> None:
        self.trials: dict[Candidate, Trial] = {}
        self._plan = plan
        self._track = track
        self._report = report
        self._heats: dict[tuple[int, str], list[Trial]] = {}
        self._spent = 0.0
        self._looks = 0
        self._round = 0  # of all turns
        self._raced = 0  # of the heats

    def run(self) -> None:
        """Tries, races and thins out. Those that have passed all checks are ``proven`` then."""
        for number, family in enumerate(self._plan.families):
            self._try_family(family, number / len(self._plan.families) / 2)
        self._leave_out()
        self._form_heats()
        self._race(MIN_ROUNDS)
        while self._spent < self._plan.seconds and any(len(h) > 1 for h in self._heats.values()):
            self._race(1)
        for trial in self._open():
            self._track.close(trial.candidate)

    def winner(self, rows: int, *precisions: str) -> Trial | None:
        """The fastest in those precisions; of those as fast, the simplest; None: none is proven."""
        proven = [t for t in self.trials.values() if t.proven]
        return choose([t for t in proven if t.candidate.precision in precisions], rows)

    # Everything once

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
            trial = self._enter(one)
            self._thin_out()
            if trial.status in BAD:
                no_use = f"{trial.status} with {threads} threads"
                continue
            lows = {rows: trial.low(rows) for rows in self._plan.rows}
            if best and all(low > WORSE * best[rows] for rows, low in lows.items()):
                no_use = f"slower with {threads} threads than with more"
            best = {rows: min(low, best.get(rows, math.inf)) for rows, low in lows.items()}

    def _enter(self, candidate: Candidate) -> Trial:
        """Opens a candidate, times it once, and proves it unless it is far behind."""
        trial = self.trials[candidate] = Trial(candidate)
        with self._refusing(trial):
            trial.version, trial.parity = self._track.open(candidate)
            self._look(trial)
            if self._is_out(trial):
                self._drop(trial, "far behind; its whole run was not checked")
            else:
                trial.parity = {**trial.parity, **self._track.prove(candidate)}
                trial.proven = True
        return trial

    def _look(self, trial: Trial) -> None:
        """Times it once, in a round of its own."""
        self._looks += 1
        for rows in self._plan.rows:
            self._time(trial, rows, -self._looks, SHORTEST)

    def _is_out(self, trial: Trial) -> bool:
        """Whether it is far behind, and at another time still is: the machine has others to run."""
        if not self._far_behind(trial):
            return False
        self._look(trial)
        return self._far_behind(trial)

    def _far_behind(self, trial: Trial) -> bool:
        """Whether at every number of rows another of its precision is far faster."""
        others = self._open(trial.candidate.precision)
        return all(
            any(trial.low(rows) > FAR * other.low(rows) for other in others)
            for rows in self._plan.rows
        )

    def _thin_out(self) -> None:
        """Drops those that are far behind, and the slowest beyond what may stay open."""
        for trial in self._open():
            with self._refusing(trial):
                if self._is_out(trial):
                    self._drop(trial, "far behind")
        ranked = sorted(self._open(), key=lambda t: (self._class(t), t.candidate.simplicity))
        for trial in ranked[self._plan.alive :]:
            self._drop(trial, "behind, and no more are kept open")

    def _class(self, trial: Trial) -> int:
        """How far it is behind, in steps that its first block can tell apart."""
        return round(math.log(self._behind(trial), 1 + WITHIN))

    def _behind(self, trial: Trial) -> float:
        """Times as slow as the fastest of its precision, at the rows where that is the least."""
        others = self._open(trial.candidate.precision)
        return min(trial.low(n) / min(o.low(n) for o in others) for n in self._plan.rows)

    # Rounds

    def _form_heats(self) -> None:
        """Those of the same rows follow each other, so that precisions are compared too."""
        for rows in self._plan.rows:
            for precision in dict.fromkeys(t.candidate.precision for t in self._open()):
                self._heats[rows, precision] = self._open(precision)

    def _race(self, rounds: int) -> None:
        """So many rounds of all heats; after them, who is slower drops out."""
        for _ in range(rounds):
            self._report("rounds", 0.5 + 0.5 * min(1.0, self._spent / self._plan.seconds))
            for (rows, _), racers in self._heats.items():
                self._turns(racers, rows, self._slice())
            self._round += 1
            self._raced += 1
            for heat, racers in self._heats.items():
                self._heats[heat] = _near(racers, heat[0])
        halving = self._raced in HALVINGS
        for heat, racers in self._heats.items():
            self._heats[heat] = self._left(racers, heat[0], halving)
        self._drop_idle()

    def _turns(self, racers: Sequence[Trial], rows: int, seconds: float) -> None:
        """A block each, another one first in every round."""
        shift = self._round % max(1, len(racers))
        for trial in (*racers[shift:], *racers[:shift]):
            if trial.status is None:
                with self._refusing(trial):
                    self._time(trial, rows, self._round, max(SHORTEST, seconds))

    def _slice(self) -> float:
        """Seconds of a block, so that the time that is left holds the rounds that are left."""
        blocks = max(1, ROUNDS - self._raced) * sum(len(h) for h in self._heats.values())
        left = max(0.0, self._plan.seconds - self._spent)
        return min(LONGEST, max(SHORTEST, left / max(1, blocks)))

    def _left(self, racers: list[Trial], rows: int, halving: bool) -> list[Trial]:
        """Those of a heat that go on."""
        racers = sorted((t for t in racers if t.status is None), key=lambda t: t.median(rows))
        if not racers:
            return []
        first = racers[0].blocks[rows]
        left = [t for t in racers if not slower(t.blocks[rows], first)]
        return left[: max(2, math.ceil(len(left) / 2))] if halving else left

    def _drop_idle(self) -> None:
        racing = [t.candidate for racers in self._heats.values() for t in racers]
        for trial in self._open():
            if trial.candidate not in racing:
                self._drop(trial, "")

    # Rewrites that don't pay

    def _leave_out(self) -> None:
        """Of each runtime's best rewritten form, what its rewrites are worth one by one."""
        forms = [t for t in self._open() if t.candidate.rewrites and self._behind(t) <= CLOSE]
        for runtime, precision in dict.fromkeys(_kind(t.candidate) for t in forms):
            ours = [t for t in forms if _kind(t.candidate) == (runtime, precision)]
            first = best = min(ours, key=self._product)
            for name in reversed(first.candidate.rewrites):
                best = self._without(best, name)
            if best is first:
                continue
            for other in ours:  # with other numbers of threads
                if other is not first and other.status is None:
                    self._replace(other, best.candidate.rewrites)

    def _without(self, best: Trial, name: str) -> Trial:
        """The trial without that rewrite, if it is not slower; else ``best``."""
        kept = tuple(n for n in best.candidate.rewrites if n != name)
        with contextlib.suppress(Refused):
            kept = self._track.form(kept)
        shorter = dataclasses.replace(best.candidate, rewrites=kept)
        if shorter in self.trials or self._spent >= self._plan.seconds:
            return best  # the plain graph races by itself
        self._report(f"without {name}: {best.candidate.runtime}", 0.5)
        trial = self._enter(shorter)
        for _ in range(MIN_ROUNDS):
            for rows in self._plan.rows:
                self._turns([best, trial], rows, self._plan.seconds / DUELS)
            self._round += 1
        if trial.status is not None or best.status is not None:
            return best
        pays = any(slower(trial.blocks[n], best.blocks[n]) for n in self._plan.rows)
        self._drop(*((trial, f"{name} pays") if pays else (best, f"as fast without {name}")))
        return best if pays else trial

    def _replace(self, trial: Trial, rewrites: tuple[str, ...]) -> None:
        """The same with fewer rewrites takes the trial's place."""
        shorter = dataclasses.replace(trial.candidate, rewrites=rewrites)
        if shorter not in self.trials and self._enter(shorter).proven:
            self._drop(trial, "with rewrites that don't pay")

    def _product(self, trial: Trial) -> float:
        return math.prod(trial.low(rows) for rows in self._plan.rows)

    # One candidate

    def _open(self, precision: str | None = None) -> list[Trial]:
        return [
            t for t in self.trials.values()
            if t.proven and t.status is None and precision in (None, t.candidate.precision)
        ]  # fmt: skip

    def _time(self, trial: Trial, rows: int, number: int, seconds: float) -> None:
        block = self._track.time(trial.candidate, rows, seconds)
        self._spent += block.seconds
        trial.blocks.setdefault(rows, {})[number] = block

    def _drop(self, trial: Trial, reason: str) -> None:
        trial.status, trial.reason = SLOWER, reason
        self._track.close(trial.candidate)

    @contextlib.contextmanager
    def _refusing(self, trial: Trial) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            trial.refuse(refused)
            self._track.close(trial.candidate)


def _near(racers: Sequence[Trial], rows: int) -> list[Trial]:
    """Those that still run and are not far behind the fastest."""
    racers = [t for t in racers if t.status is None]
    return [t for t in racers if t.low(rows) <= FAR * min(o.low(rows) for o in racers)]


def _kind(candidate: Candidate) -> tuple[str, str]:
    return candidate.runtime, candidate.precision
