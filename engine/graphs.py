"""CUDA graphs: a step, or a whole run of steps, recorded once and replayed.

A capture enqueues nothing and moves no step counter. What a graph reads and writes keeps its
address for life; its scratch memory comes from one pool that all graphs of a queue share, so they
run one after the other, and are captured largest first.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from revstep.engine.cuda.device import Queue

if TYPE_CHECKING:
    import torch

__all__ = ["CaptureRefused", "CudaGraphs", "Graph", "Graphs", "HostGraphs", "make_graphs"]

_capturing = threading.Lock()  # torch allows one capture at a time in a process


class CaptureRefused(Exception):  # noqa: N818  (the eager loop runs instead)
    """Calls that can't be captured; the text is the reason."""


class Graph(Protocol):
    """Recorded calls."""

    def replay(self) -> None:
        """Enqueues all of them."""
        ...


class Graphs(Protocol):
    """Makes graphs on one queue."""

    def capture(self, calls: Sequence[Callable[[], None]]) -> Graph:
        """Records the calls, in order, without running them.

        Raises:
            CaptureRefused: One of them can't be captured.
        """
        ...


def make_graphs(queue: Queue) -> Graphs:
    """The graphs of a queue's device."""
    return HostGraphs() if queue.stream is None else CudaGraphs(queue)


class CudaGraphs:
    """Graphs of a CUDA stream, in one memory pool.

    Args:
        queue: The stream; the current one whenever ``capture`` is called.
    """

    def __init__(self, queue: Queue) -> None:
        import torch

        self._queue = queue
        self._pool = torch.cuda.graph_pool_handle()

    def capture(self, calls: Sequence[Callable[[], None]]) -> torch.cuda.CUDAGraph:
        """Records the calls; they must have run once before, with the same buffers."""
        import torch

        with _capturing:
            torch.cuda.synchronize(self._queue.device)
            torch.cuda.empty_cache()  # memory of the warm-up, for the pool
            graph = torch.cuda.CUDAGraph()
            with _no_collection():
                # thread_local: other threads may go on allocating on their own streams
                graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
                try:
                    for call in calls:
                        call()
                    graph.capture_end()
                except Exception as error:
                    self._abandon(graph)
                    if isinstance(error, torch.OutOfMemoryError):
                        raise
                    raise CaptureRefused(str(error).partition("\n")[0][:300]) from error
        return graph

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """Ends a broken capture; its part of the pool is not used again."""
        import torch

        with contextlib.suppress(Exception):
            graph.capture_end()
        with contextlib.suppress(Exception):  # capture_end skips this when the capture is broken
            torch._C._cuda_endAllocateToPool(self._queue.device.index, self._pool)
        self._pool = torch.cuda.graph_pool_handle()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Python frees nothing meanwhile: freeing GPU objects breaks a capture."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _HostGraph:
    def __init__(self, calls: Sequence[Callable[[], None]]) -> None:
        self._calls = tuple(calls)

    def replay(self) -> None:
        for call in self._calls:
            call()


class HostGraphs:
    """The same meaning without a GPU: a list of calls. It lets tests run all that uses graphs."""

    def capture(self, calls: Sequence[Callable[[], None]]) -> Graph:
        """Keeps the calls; runs none of them."""
        return _HostGraph(calls)
