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


class Processes:
    """A process for each candidate; ``close_all`` ends those that are left.

    Args:
        path: The bundle, whose hashes are checked.
        cancelled: Polled while a candidate works.
        cache: In place of the user's cache.
    """

    def __init__(self, path: Path, cancelled: Never, cache: Path) -> None:
        self._first = {"bundle": str(path)}
        self._cancelled = cancelled
        self._cache = cache
        self._processes: dict[Candidate, Process] = {}
        self._known: dict[tuple[str, int], float] = {}  # request, rows -> thread-seconds

    def time(self, candidate: Candidate, rows: int, seconds: float) -> Block:
        """Times a block of calls."""
        return Block(**self._ask(candidate, "time", rows=rows, seconds=seconds))

    def _start(self, candidate: Candidate, kind: str, **request: Any) -> Any:
        """Starts its process and opens it there, as the runtime, precision and threads say."""
        self._processes[candidate] = Process(self._cancelled, self._cache)
        return self._ask(
            candidate, kind, **self._first, runtime=candidate.runtime,
            precision=candidate.precision, threads=candidate.threads, **request,
        )  # fmt: skip

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


class ProcessTrack(Processes):
    """Processes for the candidates of one bundle's denoiser.

    Args:
        path: As of ``Processes``.
        graphs: Its graph's forms.
        bounds: Parity bounds in place of the precision's.
        cancelled: As of ``Processes``.
        cache: As of ``Processes``.
    """

    def __init__(
        self,
        path: Path,
        graphs: Graphs,
        bounds: Mapping[str, float] | None,
        cancelled: Never,
        cache: Path,
    ) -> None:
        super().__init__(path, cancelled, cache)
        self._graphs = graphs
        self._bounds = None if bounds is None else dict(bounds)

    def form(self, rewrites: Sequence[str]) -> tuple[str, ...]:
        """Those of the rewrites that change the graph."""
        return self._graphs.form(rewrites)

    def open(self, candidate: Candidate) -> tuple[str, dict[str, Any]]:
        """Starts its process, in which it is opened and its single calls are checked."""
        file = self._graphs.file(candidate.rewrites)
        graph = None if file is None else str(file)
        found = self._start(candidate, "open", graph=graph, bounds=self._bounds)
        return found["version"], found["parity"]

    def prove(self, candidate: Candidate) -> dict[str, Any]:
        """Checks its whole run."""
        found: dict[str, Any] = self._ask(candidate, "prove")
        return found

    def prove_encoded(
        self, candidate: Candidate, encoded: Mapping[str, Path], half: bool
    ) -> dict[str, Any]:
        """Checks its whole run with conditions as encoders gave them.

        Args:
            candidate: One that is open.
            encoded: By the encoders' names, the files of what they gave for the reference.
            half: Whether one of them ran in bfloat16, whose bound holds then.
        """
        files = {name: str(file) for name, file in encoded.items()}
        found: dict[str, Any] = self._ask(candidate, "prove_encoded", encoded=files, half=half)
        return found


class PartTrack(Processes):
    """Processes for the candidates of a network beside the denoiser.

    Args:
        path: As of ``Processes``.
        key: The network's.
        folder: Where what they give for the reference goes.
        cancelled: As of ``Processes``.
        cache: As of ``Processes``.

    Attributes:
        rows: The rows of a call, at most, of those that were opened.
    """

    def __init__(self, path: Path, key: str, folder: Path, cancelled: Never, cache: Path) -> None:
        super().__init__(path, cancelled, cache)
        self._key, self._folder = key, folder
        self.rows: dict[Candidate, int] = {}

    def given(self, candidate: Candidate) -> Path:
        """What it gives for the reference's inputs: an .npz file."""
        return self._folder / f"{self._key}.{candidate.runtime}.{candidate.precision}.npz"

    def form(self, rewrites: Sequence[str]) -> tuple[str, ...]:
        """None: graphs beside the denoiser aren't rewritten."""
        return ()

    def open(self, candidate: Candidate) -> tuple[str, dict[str, Any]]:
        """Starts its process, in which it is opened and checked."""
        given = str(self.given(candidate))
        found = self._start(candidate, "open_part", key=self._key, given=given)
        self.rows[candidate] = found["rows"]
        return found["version"], found["parity"]

    def prove(self, candidate: Candidate) -> dict[str, Any]:
        """Nothing: the whole way is checked with what won."""
        return {}
