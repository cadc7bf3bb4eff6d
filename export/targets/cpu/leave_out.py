"""Rewrites that don't pay: from a runtime's best form each is left out in turn, and timed."""

from __future__ import annotations

import contextlib
import dataclasses
import math

from revstep.export.targets.cpu.candidate import Candidate, Refused, Trial
from revstep.export.targets.cpu.field import Field
from revstep.export.targets.cpu.timing import MIN_ROUNDS, slower

CLOSE = 1.25  # times as slow as the fastest: its rewrites are still looked at one by one
DUELS = 300  # blocks of the whole time: that is how long one is here


def leave_out(field: Field) -> None:
    """Has the forms in place of which simpler ones do as well drop out, while there is time."""
    forms = [t for t in field.running() if t.candidate.rewrites and field.behind(t) <= CLOSE]
    for kind in dict.fromkeys(_kind(t.candidate) for t in forms):
        ours = [t for t in forms if _kind(t.candidate) == kind]
        first = best = min(ours, key=lambda t: math.prod(t.best(n) for n in field.plan.rows))
        for name in reversed(first.candidate.rewrites):
            if field.spent < field.plan.seconds:
                best = _without(field, best, name)
        for other in ours if best is not first else ():  # with other numbers of threads
            if other is not first and other.status is None:
                _replace(field, other, best.candidate.rewrites)


def _without(field: Field, best: Trial, name: str) -> Trial:
    """The trial without that rewrite, if it is not slower; else ``best``."""
    kept = tuple(n for n in best.candidate.rewrites if n != name)
    with contextlib.suppress(Refused):
        kept = field.track.form(kept)
    shorter = dataclasses.replace(best.candidate, rewrites=kept)
    if shorter in field.trials:
        return best  # the plain graph races by itself
    trial = field.enter(shorter)
    if trial.status is not None:
        return best
    for _ in range(MIN_ROUNDS):
        for rows in field.plan.rows:
            field.turns([best, trial], rows, field.plan.seconds / DUELS)
        field.round += 1
    if trial.status is not None or best.status is not None:
        return best
    if any(slower(trial.blocks[n], best.blocks[n]) for n in field.plan.rows):
        field.drop(trial, f"{name} pays")
        return best
    field.drop(best, f"as fast without {name}")
    return trial


def _replace(field: Field, trial: Trial, rewrites: tuple[str, ...]) -> None:
    """The same with fewer rewrites takes the trial's place."""
    shorter = dataclasses.replace(trial.candidate, rewrites=rewrites)
    if shorter not in field.trials and field.enter(shorter).proven:
        field.drop(trial, "with rewrites that don't pay")


def _kind(candidate: Candidate) -> tuple[str, str]:
    return candidate.runtime, candidate.precision
