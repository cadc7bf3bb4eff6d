"""CUDA graphs: a step, or a whole run of steps, recorded once and replayed.

A capture enqueues nothing and moves no step counter. What a graph reads and writes keeps its
address for life; its scratch memory comes from one pool that all graphs of a queue share, so they
run one after the other, and are captured largest first.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from revstep.engine.devices.cuda import CAPTURING, Queue

if TYPE_CHECKING:
    import torch

__all__ = ["CaptureRefused", "CudaGraphs", "Graph", "Graphs", "HostGraphs", "make_graphs"]

_broken: list[object] = []  # torch's allocator of pinned memory asks them in later captures


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

    They are recorded on a stream of their own that never runs anything. cuBLAS keeps a workspace
    for each stream; the queue's lies outside of the pool, and whoever records with
    ``torch.compile(mode="reduce-overhead")`` in the same process frees it.

    Args:
        queue: The stream that replays; the current one whenever ``capture`` is called.
    """

    def __init__(self, queue: Queue) -> None:
        import torch

        self._queue = queue
        self._pool = torch.cuda.graph_pool_handle()
        make: Any = torch.cuda.Stream
        self._recorder = make(queue.device)

    def capture(self, calls: Sequence[Callable[[], None]]) -> torch.cuda.CUDAGraph:
        """Records the calls; they must have run once before, with the same buffers."""
        import torch

        with CAPTURING, _no_collection():
            torch.cuda.synchronize(self._queue.device)
            torch.cuda.empty_cache()  # memory of the warm-up, for the pool
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(self._recorder):
                self._record(graph, calls)
        return graph

    def _record(self, graph: torch.cuda.CUDAGraph, calls: Sequence[Callable[[], None]]) -> None:
        import torch

        # thread_local: other threads may go on allocating on their own streams
        graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
        try:
            for call in calls:
                call()
            graph.capture_end()
        except BaseException as error:
            self._abandon(graph)
            if isinstance(error, torch.OutOfMemoryError) or not isinstance(error, Exception):
                raise
            raise CaptureRefused(str(error).partition("\n")[0][:300]) from error

    def _abandon(self, graph: torch.cuda.CUDAGraph) -> None:
        """Ends a broken capture: the stream, and torch's allocators, go on as before it."""
        import torch

        with contextlib.suppress(RuntimeError, Warning):  # it warns of empty graphs
            graph.capture_end()
            return
        # torch (2.13) leaves its allocator recording then, which forbids to empty its cache;
        # releasing is right only where ending was, else the graph itself does it
        index = self._queue.device.index
        with contextlib.suppress(RuntimeError):
            torch._C._cuda_endAllocateToPool(index, self._pool)
            torch._C._cuda_releasePool(index, self._pool)
        _broken.append(graph)
        self._pool = torch.cuda.graph_pool_handle()


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Python frees nothing meanwhile: destroying graphs and events breaks a capture."""
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
