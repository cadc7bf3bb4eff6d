"""What a search is given: a plan of what to try, and a track where candidates run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from revstep.export.targets.cpu.candidate import Candidate
from revstep.export.targets.cpu.timing import Block

Report = Callable[[str, float], None]
"""Called with a description and the share that is done."""


class Track(Protocol):
    """Where candidates run. A method raises ``Refused`` where the candidate fails."""

    def form(self, rewrites: Sequence[str]) -> tuple[str, ...]:
        """Those of the rewrites that change the graph: some need others before them."""
        ...

    def open(self, candidate: Candidate) -> tuple[str, dict[str, Any]]:
        """Starts it and checks single calls: (its runtime's version, the figures)."""
        ...

    def prove(self, candidate: Candidate) -> dict[str, Any]:
        """Checks a whole run: the figures."""
        ...

    def time(self, candidate: Candidate, rows: int, seconds: float) -> Block:
        """Times calls of so many rows, about that long."""
        ...

    def close(self, candidate: Candidate) -> None:
        """Ends it, whatever state it is in."""
        ...


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is searched.

    Attributes:
        families: (runtime, precision, all rewrites to be tried together), the default first.
        threads: Numbers of threads, from the largest down.
        rows: Numbers of network rows.
        seconds: Of timing.
        alive: Candidates that may stay open beside the default and the one that is tried.
    """

    families: tuple[tuple[str, str, tuple[str, ...]], ...]
    threads: tuple[int, ...]
    rows: tuple[int, ...]
    seconds: float
    alive: int
