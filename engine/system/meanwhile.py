"""What another thread does, while this one waits for a library that runs without Python's lock."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

_here = threading.local()


@contextlib.contextmanager
def to_do(work: Callable[[], object]) -> Iterator[None]:
    """In this block, of this thread, the first ``meanwhile`` does ``work``.

    Args:
        work: What may as well be done later: its errors are passed over.
    """
    _here.work = work
    try:
        yield
    finally:
        _here.work = None


@contextlib.contextmanager
def meanwhile() -> Iterator[None]:
    """Does what is to do in a thread, while the block runs; ends when both have.

    Where the process may use one processor alone, it is done before, and no thread starts.
    """
    work, _here.work = getattr(_here, "work", None), None
    if work is None:
        yield
        return
    from revstep.engine.system.cores import usable_cpus

    if usable_cpus() == 1:
        _quietly(work)
        yield
        return
    thread = threading.Thread(target=_quietly, args=(work,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _quietly(work: Callable[[], object]) -> None:
    with contextlib.suppress(Exception):
        work()
