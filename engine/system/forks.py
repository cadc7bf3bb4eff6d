"""What a fork breaks, renewed in the child: locks are copied as they were held.

A forked child has one thread, the one that forked. A lock that another thread held stays held for
ever, and a library's worker threads are gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Protocol

from revstep.engine.errors import BackendError

WAIT_S = 10.0  # of a fork for the calls that are inside
POLL_S = 50e-6
ASLEEP_S = 0.02  # until a library's worker threads have found nothing to do


class Renewed(Protocol):
    """What must know that it is in a forked child now."""

    def after_fork(self) -> None:
        """Runs in the child's one thread, before anything else of it does."""
        ...


_renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()


def renew_in_children(thing: Renewed) -> None:
    """Calls ``thing.after_fork()`` in every child that this process forks, while it lives."""
    _renewed.add(thing)


class HeldAtForks:
    """Calls into a library whose locks a child would find held: none of them is inside at a fork.

    A fork waits for those that are inside, ``WAIT_S`` at most, and a moment longer, until the
    library's own threads sleep; who comes meanwhile waits for it.
    """

    def __init__(self) -> None:
        self._forking = threading.Lock()
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before, after_in_parent=self._after, after_in_child=self._in_child
            )

    def enter(self, me: object) -> None:
        """A call begins; ``me`` is nobody else's while it runs."""
        self._used = True
        self._inside.add(me)
        while not self._open.is_set():
            self._inside.discard(me)
            self._open.wait()
            self._inside.add(me)

    def leave(self, me: object) -> None:
        """The call of ``me`` has ended."""
        self._inside.discard(me)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """A call, as a context."""
        me = object()
        self.enter(me)
        try:
            yield
        finally:
            self.leave(me)

    def _renew(self) -> None:
        self._inside: set[object] = set()
        self._used = False
        self._open = threading.Event()
        self._open.set()

    def _before(self) -> None:
        self._forking.acquire()
        self._open.clear()
        end = monotonic() + WAIT_S
        while self._inside and monotonic() < end:
            sleep(POLL_S)  # which lets them have Python's lock
        if self._used:
            sleep(ASLEEP_S)

    def _after(self) -> None:
        self._open.set()
        if self._forking.locked():  # not where it was made while another thread forked
            self._forking.release()

    def _in_child(self) -> None:
        self._forking = threading.Lock()
        self._renew()


def keep_for_ever(thing: object) -> None:
    """Keeps a library's object from being destroyed, in a child where that would not end."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def refuse_forked(made_by: int, device: str) -> None:
    """Refuses a GPU in a forked child.

    Args:
        made_by: ``os.getpid()`` where the engine was made.
        device: The GPU.

    Raises:
        BackendError: This is another process.
    """
    if os.getpid() != made_by:
        raise BackendError(
            f"this engine runs on {device} in process {made_by}, and CUDA doesn't work in a forked "
            f"child (process {os.getpid()}): start the child with multiprocessing's 'spawn' or "
            "'forkserver', and load the engine there"
        )


def _renew() -> None:
    for thing in list(_renewed):
        thing.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
