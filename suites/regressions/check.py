"""Found values against committed ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum

from suites.regressions.committed import Record
from suites.regressions.figure import Figure, Found, Group


class Verdict(Enum):
    """What a comparison says; the value is the word for it."""

    HOLDS = "holds"
    SMALLER = "smaller"
    OTHER = "other versions"
    GROWN = "GROWN"
    NEW = "NOT RECORDED"
    GONE = "GONE"

    @property
    def fails(self) -> bool:
        """Whether the check fails by it."""
        return self in (Verdict.GROWN, Verdict.NEW, Verdict.GONE)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A figure, found and committed.

    Attributes:
        group: Its group.
        figure: The figure.
        verdict: What to think of it.
        committed: None: not recorded.
        found: None: no longer measured.
        added: Names of what was counted and is new.
    """

    group: Group
    figure: Figure
    verdict: Verdict
    committed: float | None = None
    found: float | None = None
    added: tuple[str, ...] = ()


def compare(
    group: Group, found: Found, versions: Mapping[str, str], record: Record | None
) -> list[Comparison]:
    """Every figure of a group that is measured or recorded.

    Args:
        group: The group.
        found: What was measured.
        versions: With what.
        record: The committed values; None: never recorded.
    """
    committed = Found({}) if record is None else record.found
    comparable = record is None or record.versions == versions
    told = [_one(group, f, found, committed, comparable) for f in group.figures]
    known = {figure.name for figure in group.figures}
    gone = [Figure(name, "") for name in committed.values if name not in known]
    return told + [
        Comparison(group, figure, Verdict.GONE, committed.values[figure.name]) for figure in gone
    ]


def _one(
    group: Group, figure: Figure, found: Found, committed: Found, comparable: bool
) -> Comparison:
    value, before = found.values[figure.name], committed.values.get(figure.name)
    names, known = found.names.get(figure.name, ()), committed.names.get(figure.name, ())
    added = tuple(name for name in names if name not in known) if known else ()
    return Comparison(
        group, figure, _verdict(figure, value, before, comparable), before, value, added
    )


def _verdict(figure: Figure, value: float, before: float | None, comparable: bool) -> Verdict:
    if before is None:
        return Verdict.NEW
    if not comparable:
        return Verdict.OTHER
    if not value <= figure.limit(before):  # NaN grows too
        return Verdict.GROWN
    shrunk = before - value > figure.limit(before) - before
    return Verdict.SMALLER if shrunk else Verdict.HOLDS
