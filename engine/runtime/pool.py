"""Workspaces: the buffers and the bound network of one run, lent from a bounded pool.

Sessions are thread-safe but bindings are not, so every run holds a workspace of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator

from revstep.engine.backends.protocol import Denoiser, NetworkBuffers
from revstep.engine.system.forks import renew_in_children
from revstep.kernels import StepBuffers, StepKernel

__all__ = ["Workspace", "WorkspacePool"]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Workspace:
    """Network buffers of a fixed number of rows, and the call that runs the network on them.

    Attributes:
        buffers: The network's buffers.
        network: Runs it on them.
        steps: The prepared step of the last run, by the run's form, where it is small.
    """

    buffers: NetworkBuffers
    network: Callable[[], None]
    steps: dict[Hashable, tuple[StepBuffers, StepKernel]] = dataclasses.field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Network rows."""
        return int(self.buffers.x.shape[0])


class WorkspacePool:
    """At most ``limit`` workspaces at once; idle ones are kept, the least recently used go first.

    Args:
        denoiser: The network to bind.
        limit: Runs at the same time; further ones wait for their turn. A run that a callback
            of another begins, on its thread, takes a workspace beyond the limit instead: the two
            would wait for each other.
    """

    def __init__(self, denoiser: Denoiser, limit: int) -> None:
        self._denoiser = denoiser
        self._limit = limit
        self._thread = threading.local()
        self._idle: OrderedDict[int, Workspace] = OrderedDict()  # id -> workspace, oldest first
        self.after_fork()
        renew_in_children(self)

    def after_fork(self) -> None:
        """Frees all places: the threads that hold them aren't there in a forked child."""
        self._running = threading.Semaphore(self._limit)
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def lend(self, rows: int) -> Iterator[Workspace]:
        """A workspace of ``rows`` network rows, for the length of the ``with`` block."""
        nested = getattr(self._thread, "holds", False)
        with contextlib.nullcontext() if nested else self._running:
            self._thread.holds = True
            workspace = self._take(rows) or self._make(rows)
            try:
                yield workspace
            finally:
                self._thread.holds = nested
                with self._lock:
                    self._idle[id(workspace)] = workspace
                    while len(self._idle) > self._limit:
                        self._idle.popitem(last=False)

    def _take(self, rows: int) -> Workspace | None:
        with self._lock:
            for key in reversed(self._idle):
                if self._idle[key].rows == rows:
                    return self._idle.pop(key)
        return None

    def _make(self, rows: int) -> Workspace:
        buffers = NetworkBuffers.allocate(self._denoiser.spec, rows)
        return Workspace(buffers, self._denoiser.bind(buffers))
