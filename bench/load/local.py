"""A server of a bundle in a process of its own, which ends whatever happens."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from revstep.engine.errors import BackendError

# The pipe on its stdin ends with the parent, however that ends. Not sys.stdin: a thread that reads
# it holds a lock that the interpreter wants at its end.
CHILD = """
import os, signal, sys, threading
def watch():
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
from revstep.cli import main
main()
"""
START_S = 600.0  # that loading may take
END_S = 20.0  # that ending may take, before it is killed
SERVING = "serving "


@contextlib.contextmanager
def served_here(
    bundle: Path, options: Sequence[str] = ()
) -> Iterator[tuple[str, Callable[[], bool]]]:
    """Serves a bundle on a free port of loopback, for the length of the ``with`` block.

    The process has a session of its own: a terminal's Ctrl-C doesn't reach it.

    Args:
        bundle: Its directory.
        options: Of ``revstep serve``.

    Yields:
        Its URL, once it listens, and what says whether the process lives.

    Raises:
        BackendError: It ended before; with what it said.
    """
    command = [sys.executable, "-c", CHILD, "serve", str(bundle), *options]
    command += ["--host", "127.0.0.1", "--port", "0", "--no-page", "--grace", "0"]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True,
            start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            yield _url(process, said), lambda: process.poll() is None
        finally:
            _end(process)


def _url(process: subprocess.Popen[str], said: IO[str]) -> str:
    """What its first line says; a thread reads the pipe, as that can't be waited for otherwise."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert process.stdout is not None
    out = process.stdout
    threading.Thread(target=lambda: lines.put(out.readline()), daemon=True).start()
    try:
        line = lines.get(timeout=START_S)
    except queue.Empty:
        raise BackendError(f"the server did not listen within {START_S:g} s") from None
    if not line.startswith(SERVING):
        _end(process)
        said.seek(0)
        last = said.read().strip().splitlines()[-1:] or ["nothing"]
        raise BackendError(f"the server ended with {process.returncode}; it says: {last[0]}")
    return line.split()[-1]


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
