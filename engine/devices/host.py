"""The host: numpy arrays, the native kernels, and work that is done when its call returns."""

from __future__ import annotations

import contextlib
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.kernels import StepBuffers, StepKernel, backend, normal_fill
from revstep.kernels.noise import STREAM_INITIAL


class HostDevice:
    """See ``Device``. Thread-safe: it holds nothing."""

    name = "cpu"
    ahead = 0
    warm_ups = 0
    stamp = staticmethod(perf_counter_ns)

    def use(self) -> contextlib.AbstractContextManager[None]:
        """Nothing."""
        return contextlib.nullcontext()

    def zeros(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """A numpy array; the system gives its pages when they are first written."""
        return np.zeros(shape, dtype)

    def upload(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself."""
        return array

    def download(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself."""
        return array

    def mark(self) -> HostDevice:
        """The host itself."""
        return self

    def wait(self) -> None:
        """Nothing to wait for."""

    def ns_between(self, earlier: int, later: int) -> int:
        """The difference."""
        return later - earlier

    def prepare(self, buffers: StepBuffers) -> StepKernel:
        """The native kernels, or the reference without them."""
        return StepKernel(buffers)

    def fill_noise(
        self, out: NDArray[np.float32], seed: NDArray[np.uint64], seeds: NDArray[np.uint64]
    ) -> None:
        """Fills ``out`` (k, D) with the seeds' initial noise."""
        normal_fill(out, seeds, 0, STREAM_INITIAL)

    def memory_named(self, doing: str, fix: str) -> contextlib.AbstractContextManager[None]:
        """Nothing: numpy's ``MemoryError`` says it."""
        return contextlib.nullcontext()

    def describe_kernels(self) -> str:
        """``native`` or ``reference``."""
        return backend()
