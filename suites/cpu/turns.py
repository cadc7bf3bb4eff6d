"""Contenders measured in turns: each a task in a process, all pinned to one core, one at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.clock import rounds
from revstep.bench.described import without_place
from revstep.bench.machine import machine_info
from revstep.export.parity.bounds import relative_error

ROOT = Path(__file__).resolve().parents[2]
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclasses.dataclass(frozen=True)
class Tree:
    """A build of revstep and the Python that imports it.

    Attributes:
        python: The interpreter.
        source: A checkout's ``src``, ready to import; None: what the interpreter has installed.
    """

    python: str = sys.executable
    source: Path | None = None

    @classmethod
    def at(cls, path: Path) -> Tree:
        """A virtual environment with revstep, or a checkout that is ready to import.

        Raises:
            ValueError: It is neither.
        """
        path = path.absolute()
        if (path / "bin" / "python").exists():
            return cls(str(path / "bin" / "python"))
        if (path / "src" / "revstep" / "engine").exists():
            return cls(source=path / "src")
        raise ValueError(
            f"{path} is no virtual environment, and no checkout with its folders linked into "
            "src/revstep; docs/cpu.md says how to make one"
        )

    @property
    def commit(self) -> str | None:
        """Of the checkout that it lies in."""
        commit = machine_info(self.source or Path(self.python).parent)["commit"]
        return None if commit is None else str(commit)

    def environment(self) -> dict[str, str]:
        """Of its processes: one thread, and this checkout's suites."""
        given = os.environ.get("PYTHONPATH", "")
        own = given if self == Tree() else str(self.source or "")
        path = os.pathsep.join(filter(None, [own, str(ROOT)]))
        quiet = {"PYTHONSAFEPATH": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        return {**os.environ, **dict.fromkeys(THREADS, "1"), **quiet, "PYTHONPATH": path}


OURS = Tree()


@dataclasses.dataclass(frozen=True)
class Contender:
    """A task of one side.

    Attributes:
        name: As the rows have it.
        kind: Of ``suites.cpu.tasks``, ``peer`` or ``form``.
        options: Its arguments: plain JSON values.
        tree: The build that runs it.
        process: Contenders of equal tree and ``process`` share one.
        lasting: Whether its process is kept over all starts, as one that compiles for long is.
        bound: Largest RMS error of its result, relative to the first contender's; None: no check.
    """

    name: str
    kind: str
    options: Mapping[str, Any]
    tree: Tree = OURS
    process: str = ""
    lasting: bool = False
    bound: float | None = None


@dataclasses.dataclass
class Found:
    """What the turns gave.

    Attributes:
        times: name -> starts -> rounds, in seconds; the same numbers for all names.
        told: name -> what runs.
        errors: name -> error of its result, relative to the first contender's.
        failed: name -> why it has no times.
    """

    times: dict[str, list[list[float]]] = dataclasses.field(default_factory=dict)
    told: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    errors: dict[str, float] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)


class Failed(Exception):  # noqa: N818  (a result like others: it becomes a row)
    """A contender that can't go on; its text is the reason."""


def last_words(text: str) -> str:
    """The last line that says something: a command frames its errors."""
    lines = [line.strip(" │╭╰╮╯─") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "no message")[:300]


class Process:
    """A worker, from this side."""

    def __init__(self, tree: Tree, core: int | None) -> None:
        command = [tree.python, "-m", "suites.cpu.worker", *([] if core is None else [str(core)])]
        self._log = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115  (closed with the process)
        self._process = subprocess.Popen(
            command, env=tree.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True, cwd=ROOT,
        )  # fmt: skip

    def ask(self, **request: Any) -> dict[str, Any]:
        """The reply to a request.

        Raises:
            Failed: The task raised, or the process ended.
        """
        self.send(**request)
        return self.reply()

    def send(self, **request: Any) -> None:
        """Begins a request, without waiting for its reply."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def reply(self) -> dict[str, Any]:
        """The reply to what was sent; raises as ``ask``."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            code = self._process.wait()
            raise Failed(f"its process ended with {code}: {last_words(self._log.read())}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise Failed(found["error"])
        return found

    def close(self) -> None:
        """Ends it."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._log.close()


def take_turns(
    contenders: Sequence[Contender],
    *,
    core: int,
    starts: int = 3,
    minimum: int = 3,
    maximum: int = 20,
    seconds: float = 20.0,
) -> Found:
    """Measures all contenders in interleaved rounds, in an order that turns round every time.

    Where a process happens to put its memory moves all its times, so it is started several times.
    Results are compared before anything is timed; who is wrong or fails is left out, by name.

    Args:
        contenders: The first is the one that results are compared with.
        core: Of all processes.
        starts: Of the processes that are not lasting.
        minimum: Rounds of a start.
        maximum: Rounds of a start.
        seconds: No round of a start begins after this time, but for the minimum.
    """
    found, kept = Found(), _Processes(core)
    try:
        for start in range(starts):
            ready = [c for c in contenders if c.name not in found.failed]
            if start:
                kept.close(lasting=False)
            ready = [c for c in ready if _opened(c, kept, found)]
            if not start:
                ready = list(_agreeing(ready, kept, found))
            for number in rounds(seconds, minimum, maximum):
                for contender in ready[:: -1 if number % 2 else 1]:
                    if contender.name not in found.failed:
                        _timed(contender, kept, found, start)
    finally:
        kept.close(lasting=True)
    for name in found.failed:
        found.times.pop(name, None)
    return found


class _Processes:
    """The workers of the contenders."""

    def __init__(self, core: int) -> None:
        self._core = core
        self._open: dict[tuple[Tree, str, bool], Process] = {}
        self._tasks: set[tuple[Tree, str, bool, str]] = set()

    def of(self, contender: Contender) -> Process:
        key = (contender.tree, contender.process, contender.lasting)
        if key not in self._open:
            self._open[key] = Process(contender.tree, self._core)
        return self._open[key]

    def first(self, contender: Contender) -> bool:
        """Whether the contender's task is new to its process."""
        key = (contender.tree, contender.process, contender.lasting, contender.name)
        new = key not in self._tasks
        self._tasks.add(key)
        return new

    def close(self, *, lasting: bool) -> None:
        """Ends the processes, those that last too or the others alone."""
        for key in [key for key in self._open if lasting or not key[2]]:
            self._open.pop(key).close()
            self._tasks = {task for task in self._tasks if task[:3] != key}


def _opened(contender: Contender, kept: _Processes, found: Found) -> bool:
    try:
        if kept.first(contender):
            asked = {"kind": contender.kind, "options": dict(contender.options)}
            reply = kept.of(contender).ask(do="open", name=contender.name, **asked)
            found.told.setdefault(contender.name, without_place(reply["told"]))
    except Failed as error:
        found.failed[contender.name] = str(error)
        return False
    return True


def _agreeing(ready: Sequence[Contender], kept: _Processes, found: Found) -> Iterator[Contender]:
    """The contenders whose result is the first one's."""
    want: NDArray[Any] | None = None
    for contender in ready:
        if contender.bound is None:
            yield contender
            continue
        try:
            got = _result(contender, kept)
        except Failed as error:
            found.failed[contender.name] = str(error)
            continue
        want = got if want is None else want
        apart = relative_error(got, want, rms=True)
        found.errors[contender.name] = apart
        if apart <= contender.bound:
            yield contender
        else:
            found.failed[contender.name] = (
                f"its result differs by {apart:.2g} of the RMS; the bound is {contender.bound:g}"
            )


def _result(contender: Contender, kept: _Processes) -> NDArray[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.npy"
        kept.of(contender).ask(do="save", name=contender.name, file=str(path))
        result: NDArray[Any] = np.load(path)
    return result


def _timed(contender: Contender, kept: _Processes, found: Found, start: int) -> None:
    try:
        reply = kept.of(contender).ask(do="time", name=contender.name)
    except Failed as error:
        found.failed[contender.name] = str(error)
        return
    times = found.times.setdefault(contender.name, [])
    while len(times) <= start:
        times.append([])
    times[start].append(reply["seconds"])
