"""CUDA graphs: a step, or a whole run of steps, recorded once and replayed.

A capture enqueues nothing and moves no step counter. What a graph reads and writes keeps its
address for life; its scratch memory comes from one pool that all graphs of a device share, so they
run one after the other, and are captured largest first.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from revstep.engine.devices.cuda import CAPTURING
from revstep.engine.devices.protocol import CaptureRefused

if TYPE_CHECKING:
    import torch


_broken: list[object] = []  # torch's allocator of pinned memory asks them in later captures


class CudaGraphs:
    """Graphs of a CUDA stream, in one memory pool.

    They are recorded on a stream of their own that never runs anything. cuBLAS keeps a workspace
    for each stream; the device's lies outside of the pool, and whoever records with
    ``torch.compile(mode="reduce-overhead")`` in the same process frees it.

    Args:
        device: The GPU, which is in use whenever ``capture`` is called.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        make: Any = torch.cuda.Stream
        self._recorder = make(self._device)

    def capture(self, calls: Sequence[Callable[[], object]]) -> torch.cuda.CUDAGraph:
        """Records the calls; they must have run once before, with the same buffers."""
        import torch

        with CAPTURING, _no_collection():
            torch.cuda.synchronize(self._device)
            torch.cuda.empty_cache()  # memory of the warm-up, for the pool
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.stream(self._recorder):
                self._record(graph, calls)
        return graph

    def _record(self, graph: torch.cuda.CUDAGraph, calls: Sequence[Callable[[], object]]) -> None:
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
        index = self._device.index
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
