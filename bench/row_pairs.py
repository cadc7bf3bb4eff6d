"""Rows of two measurements, cell by cell: which is faster, and what else differs."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from revstep.bench.compare import ENOUGH, apart_interval, ratio_interval
from revstep.bench.rows import starts_of
from revstep.bench.stats.verdict import THRESHOLD, Verdict, verdict

Row = dict[str, Any]

OURS = "revstep"
MACHINE = {"cpu": "processor", "cores": "cores", "gpus": "GPUs", "drivers": "drivers"}


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One side's rows of a cell; they and their openings are as many starts of it.

    Attributes:
        rows: In the order they were measured.
    """

    rows: tuple[Row, ...]

    @property
    def starts(self) -> list[list[float]]:
        """Seconds of the runs, a list an opening of a row."""
        return [start for row in self.rows for start in starts_of(row, OURS)]

    @property
    def medians(self) -> list[list[float]]:
        """Of the runs of each row."""
        return [[median(row["times_s"][OURS])] for row in self.rows]

    @property
    def median_s(self) -> float:
        """Of all runs."""
        return median(value for start in self.starts for value in start)

    @property
    def moments(self) -> list[str]:
        """When each row was written."""
        return [row["machine"]["time"] for row in self.rows]


@dataclasses.dataclass(frozen=True, slots=True)
class Compared:
    """A cell of two measurements.

    Attributes:
        before, after: The sides.
        interval: How many times as fast ``after`` is: ``ratio``, ``low``, ``high``.
        verdict: Of ``after``.
        in_turns: Whether rows of the two took turns, and their pairs were compared.
    """

    before: Side
    after: Side
    interval: dict[str, float]
    verdict: Verdict
    in_turns: bool

    @property
    def notes(self) -> list[str]:
        """What a reader must know before they believe it."""
        return [*_disturbances(self), *_differences(self), *_starts(self)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        sides = {"before": self.before, "after": self.after}
        return {
            "cell": self.after.rows[0]["cell"],
            **{
                name: {
                    "median_s": side.median_s,
                    "rows": len(side.rows),
                    "runs": sum(map(len, side.starts)),
                }
                for name, side in sides.items()
            },
            **self.interval,
            "verdict": self.verdict,
            "in_turns": self.in_turns,
            "notes": self.notes,
        }


def compare_rows(
    before: Sequence[Row],
    after: Sequence[Row],
    *,
    threshold: float = THRESHOLD,
    any_machine: bool = False,
) -> list[Compared]:
    """The cells that both have, in the order of ``after``.

    Args:
        before: Rows of ``bench``; those of whole runs count.
        after: Those that are judged.
        threshold: The smallest relative difference that matters.
        any_machine: Compare even what different machines gave.

    Raises:
        ValueError: Rows of different machines, or no cell that both have.
    """
    sides = [[row for row in rows if row["bench"] == "latency"] for rows in (before, after)]
    named = any(len({row["bundle"]["name"] for row in rows}) > 1 for rows in sides)
    first, second = ({key: Side(found) for key, found in _cells(rows, named)} for rows in sides)
    both = [key for key in second if key in first]
    if not both:
        raise ValueError(_nothing_common(*sides))
    if not any_machine:
        _check_machines([*sides[0], *sides[1]])
    return [_compared(first[key], second[key], threshold) for key in both]


def _cells(rows: Sequence[Row], named: bool) -> Iterator[tuple[str, tuple[Row, ...]]]:
    """Rows by what was asked for, each group in the order of time."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        key = json.dumps([row["bundle"]["name"] if named else "", row["cell"]], sort_keys=True)
        found.setdefault(key, []).append(row)
    for key, group in found.items():
        yield key, tuple(sorted(group, key=lambda row: str(row["machine"]["time"])))


def _nothing_common(before: Sequence[Row], after: Sequence[Row]) -> str:
    for name, rows in (("first", before), ("second", after)):
        if not rows:
            return (
                f"the {name} file has no rows of whole runs: `revstep bench run BUNDLE --output "
                "FILE` writes them"
            )
    options = ("batch", "sampler", "steps", "backend", "precision", "device", "threads")
    apart = {
        name: tuple({str(row["cell"].get(name)): None for row in rows} for rows in (before, after))
        for name in options
    }
    said = "; ".join(
        f"{name} {', '.join(a)} and {', '.join(b)}"
        for name, (a, b) in apart.items()
        if not set(a) & set(b)
    )
    return (
        f"no cell is in both files ({said or 'their options are combined otherwise'}): measure "
        "both with the same options of `revstep bench run`"
    )


def _check_machines(rows: Sequence[Row]) -> None:
    apart = {
        label: list(dict.fromkeys(_text(row["machine"].get(name)) for row in rows))
        for name, label in MACHINE.items()
    }
    said = [f"{label} {' and '.join(values)}" for label, values in apart.items() if values[1:]]
    if said:
        raise ValueError(
            f"the rows are of different machines ({'; '.join(said)}), whose times don't tell which "
            "build is faster: measure both on one, or compare them all the same with --any-machine"
        )


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _compared(before: Side, after: Side, threshold: float) -> Compared:
    in_turns = _in_turns(before, after)
    if in_turns:
        interval = ratio_interval(after.medians, before.medians)
    else:
        interval = apart_interval(after.starts, before.starts)
    return Compared(before, after, interval, verdict(interval, threshold), in_turns)


def _in_turns(before: Side, after: Side) -> bool:
    """Whether both have as many rows, enough of them, and the n-th of both come before the next."""
    if len(before.rows) != len(after.rows) or len(before.rows) < ENOUGH:
        return False
    pairs = list(zip(before.moments, after.moments, strict=True))
    return all(max(pair) <= min(later) for pair, later in itertools.pairwise(pairs))


def _disturbances(compared: Compared) -> Iterator[str]:
    for name, side in (("before", compared.before), ("after", compared.after)):
        found = [
            row["disturbance"] for row in side.rows if row["disturbance"]["verdict"] != "quiet"
        ]
        if found:
            reasons = list(dict.fromkeys(reason for each in found for reason in each["reasons"]))
            verdicts = " and ".join(sorted({each["verdict"] for each in found}))
            many = f" in {len(found)} of {len(side.rows)} rows" if len(side.rows) > 1 else ""
            yield f"{name} was {verdicts}{many}: {'; '.join(reasons[:3])}"


def _differences(compared: Compared) -> Iterator[str]:
    """What differs beside the time: versions, the commit, the bundle, the engine."""
    first, second = compared.before.rows[0], compared.after.rows[0]
    versions = [
        {
            **row["machine"]["versions"], "Python": row["machine"]["python"],
            "commit": row["machine"]["commit"], "backend": row["engine"].get("backend"),
            "precision": row["engine"].get("precision"), "bundle": row["bundle"]["digest"][:12],
        }
        for row in (first, second)
    ]  # fmt: skip
    apart = [
        f"{name} {versions[0].get(name, 'none')} -> {versions[1].get(name, 'none')}"
        for name in dict.fromkeys([*versions[0], *versions[1]])
        if versions[0].get(name) != versions[1].get(name)
    ]
    if apart:
        yield f"what differs: {', '.join(apart)}"


def _starts(compared: Compared) -> Iterator[str]:
    if compared.in_turns:
        return
    if min(len(compared.before.rows), len(compared.after.rows)) < ENOUGH:
        yield (
            "the interval has the scatter of runs, and of openings where a row has several, not "
            "what changes from one process to the next: "
            f"for that, measure both in turns, {ENOUGH} times or more, into the same two files"
        )
