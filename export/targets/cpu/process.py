"""The parent's side of a candidate's process: asked, waited for, and ended in every case."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from revstep.engine.errors import Cancelled
from revstep.export.targets.cpu.candidate import CRASHED, FAILED, HUNG, Refused
from revstep.export.targets.cpu.worker import REPLY

MAIN = "from revstep.export.targets.cpu.worker import main\nmain()"
PATHS = "import sys\nsys.path[:] = sys.argv[1:]\n"  # the parent's
POLL = 0.1  # seconds between looks at ``cancelled``
TAIL = 300  # characters of what a process said last

Never = Callable[[], bool]


class Process:
    """A process that runs one candidate; ``with`` ends it.

    Args:
        cancelled: Polled while it is waited for; True ends the wait with ``Cancelled``.
        cache: In place of the user's cache, which is for what is loaded, not for what is tried.

    Raises:
        Refused: It can't be started.
    """

    def __init__(self, cancelled: Never, cache: Path) -> None:
        if not sys.executable or getattr(sys, "frozen", False):
            raise Refused(FAILED, "its process can't be started: this is no Python interpreter")
        self._cancelled = cancelled
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by ``close``)
        self._replies: queue.SimpleQueue[str] = queue.SimpleQueue()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", PATHS + MAIN, *(p for p in sys.path if isinstance(p, str))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                text=True,
                encoding="utf-8",
                env={**os.environ, "XDG_CACHE_HOME": str(cache)},
                start_new_session=True,  # Ctrl-C is the parent's, which ends this one
            )
        except OSError as error:
            self._said.close()
            raise Refused(FAILED, f"its process can't be started: {error}") from error
        threading.Thread(target=self._read, daemon=True).start()

    def ask(self, limit: float, /, **request: Any) -> Any:
        """What it answers within ``limit`` seconds.

        Raises:
            Refused: It refuses, or ended, or takes longer.
            Cancelled: ``cancelled`` says so.
        """
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except OSError:  # it has ended
            raise self._ended() from None
        found = json.loads(self._reply(limit))
        if "refused" in found:
            raise Refused(found["refused"], " ".join(found["reason"].split()))
        return found["ok"]

    def close(self) -> None:
        """Kills it, if it lives, and waits for its end."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._said):
            with contextlib.suppress(OSError):  # what it didn't read
                assert stream is not None
                stream.close()

    def _reply(self, seconds: float) -> str:
        end = monotonic() + seconds
        while True:
            left = end - monotonic()
            if left <= 0:
                raise Refused(HUNG, f"gave no answer within {seconds:.0f} s")
            with contextlib.suppress(queue.Empty):
                line = self._replies.get(timeout=min(POLL, left))
                if not line:
                    raise self._ended()
                return line
            if self._cancelled():
                raise Cancelled("the compile was cancelled; the bundle is unchanged")

    def _read(self) -> None:
        """Passes lines on; at the end an empty one, for ever after."""
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                if line.startswith(REPLY):  # not what was printed as the interpreter started
                    self._replies.put(line.removeprefix(REPLY))
        self._replies.put("")

    def _ended(self) -> Refused:
        """How it ended, with what it said last."""
        code = self._process.wait()
        how = f"exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                how = signal.Signals(-code).name
        self._said.seek(0)
        said = " ".join(self._said.read()[-4 * TAIL :].decode("utf-8", "replace").split())
        if len(said) > TAIL:  # from a whole word on: half a path can't be told from a name
            said = said[-TAIL:].partition(" ")[2]
        return Refused(CRASHED, f"its process ended ({how}){f': {said}' if said else ''}")


def never() -> bool:
    """A ``cancelled`` that is never True."""
    return False
