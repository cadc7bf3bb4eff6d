"""``--deadline`` and ``--tick``: what is asked, and what is said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from revstep.commands.output import Bars, counter
from revstep.commands.parse import duration
from revstep.engine.checks import check_one_of
from revstep.engine.errors import ArgumentError

if TYPE_CHECKING:
    from revstep.bench.measure.limits import Find
    from revstep.bench.measure.measure import Work
    from revstep.engine.spec.denoiser import DenoiserSpec

PROBES = 10  # numbers that a search tries, about
MOST_TICKS = 1_000_000  # of a loop: rows have the latency of each


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What each cell is held against.

    Attributes:
        deadline_s: Of a run; None: not asked.
        find: What is searched for it.
        tick_s: Of a control loop; None: not asked.
        seconds: Of the loop, and of each number that is tried.
    """

    deadline_s: float | None
    find: Find
    tick_s: float | None
    seconds: float

    @classmethod
    def of(cls, deadline: str | None, find: str | None, tick: str | None, seconds: float) -> Limits:
        """The options' texts.

        Raises:
            ValueError: They are no times, or ask for what isn't there: something to find without a
                deadline, or more ticks than a row holds.
        """
        if find is not None and deadline is None:
            raise ArgumentError(
                f"--find {find} says what --deadline searches, and there is none: add "
                "--deadline 20ms, or leave it out",
                "find",
            )
        check_one_of(find or "steps", "find", ("steps", "batch"))
        tick_s = None if tick is None else duration(tick, "--tick")
        if tick_s is not None and seconds > MOST_TICKS * tick_s:
            least = seconds / MOST_TICKS * 1e6
            raise ArgumentError(
                f"--tick {tick} for --seconds {seconds:g} are {seconds / tick_s:,.0f} ticks, and a "
                f"row holds {MOST_TICKS:,} at most: --tick {least:g}us or longer, or --seconds "
                f"{MOST_TICKS * tick_s:g} or less",
                "tick",
            )
        return cls(
            None if deadline is None else duration(deadline, "--deadline"),
            cast("Find", find or "steps"),
            tick_s,
            seconds,
        )

    @property
    def times(self) -> int:
        """How many times ``seconds`` a cell takes, about."""
        return 1 + (self.tick_s is not None) + PROBES * (self.deadline_s is not None)

    @property
    def estimate(self) -> str:
        """Why that isn't exact; empty where it is."""
        if self.deadline_s is None:
            return ""
        return f"--deadline tries {PROBES} numbers, about, each for --seconds at most"

    def check(self, spec: DenoiserSpec) -> None:
        """Refuses what a bundle can't be searched for.

        Raises:
            ArgumentError: The steps of a grid that has a number of its own.
        """
        count = spec.grid_of().count
        if self.deadline_s is not None and self.find == "steps" and count is not None:
            raise ArgumentError(
                f"the bundle's own time grid has {count} steps, so that --deadline has none to "
                "search; search the batch, with --find batch",
                "deadline",
            )

    def add_to(self, row: dict[str, Any], work: Work, bars: Bars) -> None:
        """``deadline`` and ``tick`` of a cell, those that are asked for, as they are found.

        Raises:
            KeyboardInterrupt: After Ctrl-C; what a loop has is in the row.
        """
        from revstep.bench.measure.limits import in_control_loop, within_deadline

        if self.deadline_s is not None:
            report = counter(bars.bar(f"{self.find} in {self.deadline_s * 1e3:g} ms"))
            row["deadline"] = within_deadline(
                work, self.deadline_s, self.find, seconds=self.seconds, progress=report
            )
        if self.tick_s is not None:
            row["tick"] = in_control_loop(work, self.tick_s, self.seconds)
            if row["tick"]["interrupted"]:
                raise KeyboardInterrupt


def limit_lines(row: dict[str, Any]) -> Iterator[str]:
    """What a row says of its limits."""
    if deadline := row.get("deadline"):
        yield _deadline_line(deadline)
    if tick := row.get("tick"):
        top = tick["percentiles"]
        named = ", ".join(f"{name} {value['value'] * 1e3:.2f} ms" for name, value in top.items())
        yield (
            f"a control loop of {tick['tick_s'] * 1e3:g} ms: {tick['misses']} of {tick['ticks']} "
            f"ticks missed ({tick['skipped']} skipped), at most {tick['longest_misses']} in a row; "
            f"from tick to samples: {named or 'too few ticks'}"
        )


def _deadline_line(deadline: dict[str, Any]) -> str:
    tried = {each["value"]: each for each in deadline["tried"]}
    limit, find, best = deadline["deadline_s"] * 1e3, deadline["find"], deadline["found"]
    if best is None:
        first = tried[1]
        why = f"{first['late']} of {first['runs']} runs of 1 were late"
        return f"within {limit:g} ms: not even 1 ({find}): {first['verdict']}, {why}"
    seconds, percent = tried[best]["seconds"], tried[best]["percent"]
    undecided = [value for value, each in tried.items() if each["verdict"] == "undecided"]
    more = f"; undecided: {', '.join(map(str, sorted(undecided)))}" if undecided else ""
    return (
        f"within {limit:g} ms at p{percent:g}: {find} {best} (p{percent:g} "
        f"{seconds['value'] * 1e3:.2f} ms, at most {seconds['high'] * 1e3:.2f}){more}"
    )
