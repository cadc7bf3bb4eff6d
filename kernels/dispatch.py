"""The kernels that this installation has: native, or the numpy reference without a compiler.

Both give the same bits; so do all instruction sets of the native kernels.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from functools import cache, partial
from types import ModuleType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from revstep.kernels.buffers import StepBuffers

Backend = Literal["native", "reference"]


@cache  # so the warning comes once
def _native() -> ModuleType | None:
    try:
        return importlib.import_module("revstep.kernels._native")
    except ImportError as error:
        import logging

        logging.getLogger("revstep").warning(
            "revstep runs without its native kernels (%s): steps use the slow numpy reference; "
            "install a C++ compiler and reinstall revstep",
            error,
        )
        return None


def backend() -> Backend:
    """The kernels that `StepKernel` uses by default: "native", or "reference" without them."""
    return "reference" if _native() is None else "native"


def native_isas() -> tuple[str, ...]:
    """Instruction sets of the native kernels that this machine can run, best first.

    Some of "avx512", "avx2", "baseline", "scalar"; empty without native kernels.
    """
    native = _native()
    return () if native is None else tuple(native.isas())


def cpu_features() -> dict[str, str]:
    """What the kernels see of this CPU, for reports: machine, kernels, instruction sets."""
    return {
        "machine": platform.machine(),
        "kernels": backend(),
        "instruction sets": ", ".join(native_isas()) or "none",
    }


class StepKernel:
    """A prepared step over validated buffers.

    The native kernel keeps the buffers' addresses (and keeps the arrays alive): write into the
    arrays, never replace them. Calls on one StepKernel must not overlap in time; different ones
    may run in parallel threads, and large steps release the GIL.

    Attributes:
        begin: Chooses each slot's table row, writes `net_t` and `net_t2`, counts the step.
        step: Runs the row of every slot: state, history, flags, x0 and `net_x` in place; gives
            whether it met a non-finite output. Raises ValueError, before anything is written, if
            maps or programs were changed to leave the table, the history or the network's batch.
        steps: Runs begin, a network and step so many times, until one meets a non-finite output;
            gives how many it ran.
        backend: "native" or "reference".
        isa: Instruction set in use; "numpy" for the reference.
    """

    begin: Callable[[], None]
    step: Callable[[], bool]
    steps: Callable[[Callable[[], object], int], int]

    def __init__(
        self, buffers: StepBuffers, *, backend: Backend | None = None, isa: str | None = None
    ) -> None:
        """Prepare the step.

        Args:
            buffers: The arrays.
            backend: None for the best there is.
            isa: One of `native_isas()`; None for the best.

        Raises:
            ValueError: Unknown or unavailable backend or instruction set.
        """
        native = _chosen(backend, isa)
        if native is None:
            from revstep.kernels import reference

            self.backend, self.isa = "reference", "numpy"
            self.begin = partial(reference.begin_step, buffers)
            self.step = partial(reference.fused_step, buffers)
            self.steps = partial(_steps, self.begin, self.step)
        else:
            prepared = native.Step(buffers, isa or "")
            self.backend, self.isa = "native", prepared.isa
            self.begin, self.step, self.steps = prepared.begin, prepared.step, prepared.steps


def _steps(
    begin: Callable[[], None], step: Callable[[], bool], network: Callable[[], object], count: int
) -> int:
    for number in range(1, count + 1):
        begin()
        network()
        if step():
            return number
    return count


def normal_fill(
    out: NDArray[np.float32],
    seed: NDArray[np.uint64],
    index: ArrayLike,
    stream: int,
    *,
    backend: Backend | None = None,
    isa: str | None = None,
) -> None:
    """Fill `out` with revstep's standard normals (`revstep.kernels.noise`).

    Args:
        out: float32 [B, D], C-contiguous, written.
        seed: uint64 [B], key of each sample.
        index: Noise index: one integer, or integers [B]; 0 to 2**32 - 1.
        stream: `noise.STREAM_STEP`, `STREAM_INITIAL` or `STREAM_KNOWN`.
        backend: None for the best there is.
        isa: One of `native_isas()`; None for the best.

    Raises:
        TypeError: The index is no integer.
        ValueError: A wrong shape, dtype or layout, an index out of range, or an unknown backend
            or instruction set.
    """
    if out.ndim != 2 or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(
            f"out is {out.dtype} {list(out.shape)}; it must be C-contiguous float32 [B, D]"
        )
    B = out.shape[0]
    if seed.shape != (B,) or seed.dtype != np.uint64:
        raise ValueError(f"seed is {seed.dtype} {list(seed.shape)}; it must be uint64 [{B}]")
    rows = _noise_indices(index, B)
    native = _chosen(backend, isa)
    if native is None:
        from revstep.kernels import reference

        reference.normal_fill(out, seed, rows, stream)
    else:
        native.normal_fill(out, np.ascontiguousarray(seed), rows, stream, isa or "")


def _noise_indices(index: ArrayLike, B: int) -> NDArray[np.uint32]:
    rows = np.empty(B, np.uint32)
    one: object = index
    if type(one) is int and 0 <= one < 1 << 32:  # what runs ask for, 3 us sooner
        rows.fill(one)
        return rows
    indices = np.asarray(index)
    if indices.dtype.kind not in "iu":
        raise TypeError(f"index is {indices.dtype}; it must be integers")
    if indices.shape not in ((), (B,)):
        raise ValueError(f"index has shape {list(indices.shape)}; it must be one, or [{B}]")
    if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < 1 << 32:
        raise ValueError("an index is outside 0..2**32 - 1")
    rows[:] = indices
    return rows


def _chosen(backend: Backend | None, isa: str | None) -> ModuleType | None:
    if backend is not None and backend not in ("native", "reference"):
        raise ValueError(f"backend is {backend!r}; it must be 'native', 'reference' or None")
    native = None if backend == "reference" else _native()
    if backend is None and isa is None:
        return native
    if backend == "native" and native is None:
        raise ValueError("the native kernels are not installed; use backend='reference'")
    if isa is not None and isa not in native_isas():
        raise ValueError(f"isa is {isa!r}; this machine has {', '.join(native_isas()) or 'none'}")
    return native
