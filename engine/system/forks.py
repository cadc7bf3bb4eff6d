"""What a fork breaks, renewed in the child: locks are copied as they were held.

A forked child has one thread, the one that forked. A lock that another thread held stays held for
ever, and a library's worker threads are gone.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Protocol

from revstep.engine.errors import BackendError


class Renewed(Protocol):
    """What must know that it is in a forked child now."""

    def after_fork(self) -> None:
        """Runs in the child's one thread, before anything else of it does."""
        ...


_renewed: weakref.WeakSet[Renewed] = weakref.WeakSet()


def renew_in_children(thing: Renewed) -> None:
    """Calls ``thing.after_fork()`` in every child that this process forks, while it lives."""
    _renewed.add(thing)


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
