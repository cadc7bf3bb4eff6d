"""One export at a time: while one runs, parts of torch and onnxscript are patched."""

from __future__ import annotations

import threading

from revstep.engine.system.forks import renew_in_children


class Turns:
    """A lock that a thread may take again, free in a forked child: ``with turns:``."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        renew_in_children(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def after_fork(self) -> None:
        """In a forked child: the lock may be held by a thread that isn't there."""
        self._lock = threading.RLock()


TURNS = Turns()
