"""torch's threads on a CPU, which don't live on in a forked child."""

from __future__ import annotations

import os

import torch

from revstep.engine.errors import BackendError

_parallel = False  # a module ran with several threads, in this process or one that it came from
_forked = False  # ... and the process was forked since


def check_threads() -> None:
    """Run before every network call on a CPU.

    GNU OpenMP's pool has no threads in a forked child, and a parallel region there may wait for
    them for ever.

    Raises:
        BackendError: A live module ran with several threads before the fork, and would now.
    """
    global _parallel
    if torch.get_num_threads() == 1:
        return
    if _forked:
        raise BackendError(
            f"torch ran with several threads before this process was forked, and with "
            f"{torch.get_num_threads()} it may wait for ever here: call torch.set_num_threads(1) "
            "in the child, or start it with multiprocessing's 'spawn' or 'forkserver' and load "
            "the engine there"
        )
    _parallel = True


def _after_fork() -> None:
    global _forked
    _forked = _forked or _parallel


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
