"""Candidates in processes of their own, as a search asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from revstep.export.targets.cpu.candidate import Candidate
from revstep.export.targets.cpu.graphs import Graphs
from revstep.export.targets.cpu.process import Never, Process
from revstep.export.targets.cpu.timing import Block

FIRST = 600.0  # seconds that the first answer of a kind (for so many rows) may take
LEAST = 60.0  # seconds that any may take, whatever the first one took
PATIENCE = 10.0  # times as long as the first one, by the threads


class ProcessTrack:
    """Processes for the candidates of one bundle; ``close_all`` ends those that are left.

    Args:
        path: The bundle, whose hashes are checked.
        graphs: Its graph's forms.
        bounds: Parity bounds in place of the precision's.
        cancelled: Polled while a candidate works.
        cache: In place of the user's cache.
    """

    def __init__(
        self,
        path: Path,
        graphs: Graphs,
        bounds: Mapping[str, float] | None,
        cancelled: Never,
        cache: Path,
    ) -> None:
        self._first = {"bundle": str(path)}
        self._graphs = graphs
        self._bounds = None if bounds is None else dict(bounds)
        self._cancelled = cancelled
        self._cache = cache
        self._processes: dict[Candidate, Process] = {}
        self._known: dict[tuple[str, int], float] = {}  # request, rows -> thread-seconds

    def form(self, rewrites: Sequence[str]) -> tuple[str, ...]:
        """Those of the rewrites that change the graph."""
        return self._graphs.form(rewrites)

    def open(self, candidate: Candidate) -> tuple[str, dict[str, Any]]:
        """Starts its process, in which it is opened and its single calls are checked."""
        file = self._graphs.file(candidate.rewrites)
        self._processes[candidate] = Process(self._cancelled, self._cache)
        found = self._ask(
            candidate,
            "open",
            **self._first,
            runtime=candidate.runtime,
            precision=candidate.precision,
            threads=candidate.threads,
            graph=None if file is None else str(file),
            bounds=self._bounds,
        )
        return found["version"], found["parity"]

    def prove(self, candidate: Candidate) -> dict[str, Any]:
        """Checks its whole run."""
        found: dict[str, Any] = self._ask(candidate, "prove")
        return found

    def time(self, candidate: Candidate, rows: int, seconds: float) -> Block:
        """Times a block of calls."""
        return Block(**self._ask(candidate, "time", rows=rows, seconds=seconds))

    def _ask(self, candidate: Candidate, kind: str, **request: Any) -> Any:
        key, threads = (kind, request.get("rows", 0)), candidate.threads
        known = self._known.get(key)
        limit = FIRST if known is None else max(LEAST, PATIENCE * known / threads)
        begun = monotonic()
        found = self._processes[candidate].ask(limit, do=kind, **request)
        self._known.setdefault(key, (monotonic() - begun) * threads)
        return found

    def close(self, candidate: Candidate) -> None:
        """Ends its process, if it has one."""
        process = self._processes.pop(candidate, None)
        if process is not None:
            process.close()

    def close_all(self) -> None:
        """Ends every process."""
        for candidate in list(self._processes):
            self.close(candidate)


def figures_of_parts(path: Path, cancelled: Never, cache: Path) -> dict[str, Any]:
    """Those of the networks beside the denoiser, in a process of its own; as ``ProcessTrack``.

    Raises:
        Refused: It is wrong, or fails.
    """
    process = Process(cancelled, cache)
    try:
        found: dict[str, Any] = process.ask(FIRST, bundle=str(path), do="parts")
    finally:
        process.close()
    return found
