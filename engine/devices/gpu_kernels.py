"""The step's kernels on a GPU: Triton, or compiled ahead of time."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from revstep.engine.checks import check_one_of
from revstep.engine.errors import BackendError
from revstep.kernels import StepBuffers
from revstep.kernels.noise import STREAM_INITIAL

if TYPE_CHECKING:
    import torch


KERNELS = ("triton", "aot")


class GpuStep(Protocol):
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


def _triton_step(buffers: StepBuffers) -> GpuStep:
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
class GpuKernels:
    """Which kernels run on a GPU.

    Attributes:
        device: The GPU.
        name: ``triton``, or ``aot``: those that the bundle's ``folder`` holds.
        folder: The bundle's kernels.
    """

    device: torch.device
    name: str = "triton"
    folder: Path | None = None

    def __post_init__(self) -> None:
        check_one_of(self.name, "kernels", KERNELS)
        if self.name == "aot" and self.folder is None:
            raise ValueError("kernels='aot' needs the folder of the compiled kernels")

    def prepare(self, buffers: StepBuffers) -> GpuStep:
        """The step over these buffers.

        Raises:
            BackendError: The kernels are missing.
        """
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

    def initial_noise(self, out: torch.Tensor, seed: torch.Tensor) -> None:
        """Fills ``out`` (k, D) with the initial noise of ``seed`` (k,), both on the device."""
        self._fill(out, seed, 0, STREAM_INITIAL)

    @functools.cached_property
    def _fill(self) -> Callable[[torch.Tensor, torch.Tensor, int, int], None]:
        if self.name == "aot" and self.folder is not None:
            from revstep.kernels.gpu.cubin import CubinNoise

            return CubinNoise(self.folder)
        from revstep.kernels.gpu.launch import normal_fill

        return normal_fill

    def describe(self) -> str:
        """``triton``, or ``aot (sm_90)``: compiled for that GPU."""
        if self.name == "aot" and self.folder is not None:
            import torch

            from revstep.kernels.gpu.cubin import chosen_target, read_index

            capability = torch.cuda.get_device_capability(self.device)
            return f"aot ({chosen_target(read_index(self.folder), capability)})"
        return self.name
