"""The prepared step of a device: Triton, kernels compiled ahead of time, or the CPU's."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revstep.engine.devices.cuda import Queue
from revstep.engine.errors import BackendError
from revstep.engine.nearest import unknown
from revstep.engine.runtime.loop import INITIAL_STREAM
from revstep.kernels import StepKernel, backend, normal_fill

if TYPE_CHECKING:
    import torch

    from revstep.kernels.buffers import StepBuffers

__all__ = ["KERNELS", "PreparedStep", "StepKernels"]

KERNELS = ("triton", "aot")


class PreparedStep(Protocol):
    """A step over fixed buffers; its calls enqueue on torch's current stream."""

    def warm_up(self) -> None:
        """Loads all code that ``begin`` and ``step`` run."""
        ...

    def begin(self) -> None:
        """Chooses every slot's table row and writes the network's times."""
        ...

    def step(self) -> None:
        """Runs every slot's row."""
        ...


class _HostStep:
    def __init__(self, buffers: StepBuffers) -> None:
        from revstep.kernels.buffers import numpy_views

        self._kernel = StepKernel(numpy_views(buffers))

    def warm_up(self) -> None:
        return

    def begin(self) -> None:
        self._kernel.begin()

    def step(self) -> None:
        self._kernel.step()


def _triton_step(buffers: StepBuffers) -> PreparedStep:
    from revstep.kernels.gpu.launch import TritonStep

    step = TritonStep(buffers)
    try:
        step.warm_up()
    except (RuntimeError, subprocess.CalledProcessError) as error:
        if isinstance(error, RuntimeError) and "C compiler" not in str(error):
            raise
        raise BackendError(
            f"Triton can't build its launcher: {error}; install gcc and Python's headers "
            "(python3-dev), or put compiled kernels into a bundle (revstep compile --kernels) and "
            "load it with kernels='aot'"
        ) from error
    return step


@dataclasses.dataclass(frozen=True)
class StepKernels:
    """Which kernels run on a queue's device.

    Attributes:
        queue: The device's queue.
        name: ``triton``, or ``aot``: those that the bundle's ``folder`` holds. On a CPU neither:
            the native kernels run.
        folder: The bundle's kernels.
    """

    queue: Queue
    name: str = "triton"
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.name not in KERNELS:
            raise ValueError(unknown("kernels", self.name, KERNELS))
        if self.name == "aot" and self.folder is None:
            raise ValueError("kernels='aot' needs the folder of the compiled kernels")

    def prepare(self, buffers: StepBuffers) -> PreparedStep:
        """The step over these buffers.

        Raises:
            BackendError: The kernels are missing.
        """
        if self.queue.stream is None:
            return _HostStep(buffers)
        try:
            if self.name == "aot" and self.folder is not None:
                from revstep.kernels.gpu.cubin import CubinStep

                return CubinStep(buffers, self.folder)
            return _triton_step(buffers)
        except ImportError as error:
            package = "cuda.core" if self.name == "aot" else "Triton"
            raise BackendError(
                f"the step on a GPU needs {package}: pip install 'revstep[cuda]' ({error})"
            ) from error
        except (FileNotFoundError, ValueError) as error:
            raise BackendError(f"the step's {self.name} kernels can't run here: {error}") from error

    def initial_noise(
        self, out: torch.Tensor, seed: torch.Tensor, seeds: NDArray[np.uint64]
    ) -> None:
        """Fills ``out`` (k, D) with the seeds' initial noise; ``seed`` holds them on the device."""
        if self.queue.stream is not None:
            self._device_fill(out, seed, 0, INITIAL_STREAM)
            return
        host: NDArray[Any] = np.empty(tuple(out.shape), np.float32)  # the same bits
        normal_fill(host, seeds, 0, INITIAL_STREAM)
        out.copy_(self.queue.upload(host), non_blocking=True)

    @functools.cached_property
    def _device_fill(self) -> Callable[[torch.Tensor, torch.Tensor, int, int], None]:
        if self.name == "aot" and self.folder is not None:
            from revstep.kernels.gpu.cubin import CubinNoise

            return CubinNoise(self.folder)
        from revstep.kernels.gpu.launch import normal_fill as fill

        return fill

    def describe(self) -> str:
        """What runs: ``native``, ``triton``, or ``aot (sm_90)``: compiled for that GPU."""
        if self.queue.stream is None:
            return backend()
        if self.name == "aot" and self.folder is not None:
            import torch

            from revstep.kernels.gpu.cubin import chosen_target, read_index

            capability = torch.cuda.get_device_capability(self.queue.device)
            return f"aot ({chosen_target(read_index(self.folder), capability)})"
        return self.name
