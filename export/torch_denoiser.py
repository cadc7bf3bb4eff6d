"""A live PyTorch module as a denoiser on the CPU: the reference of every parity check."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from revstep.engine.errors import BackendError
from revstep.engine.spec import DenoiserSpec

if TYPE_CHECKING:
    from revstep.engine.denoiser import NetworkBuffers

__all__ = ["TorchDenoiser"]


class TorchDenoiser:
    """Runs ``module(x, t, *conditions)`` on numpy buffers, float32, without gradients.

    Args:
        module: Takes float32 x (N, *shape), t (N,) and the conditions in the spec's order;
            returns (N, *output_shape). It is used as it is: put it in eval mode before.
        spec: The denoiser's spec.
    """

    def __init__(self, module: torch.nn.Module, spec: DenoiserSpec) -> None:
        self.spec = spec
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self._module = module

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call of no arguments that runs the module from ``buffers`` into ``buffers.out``."""
        module = self._module
        inputs = [torch.from_numpy(buffers.x), torch.from_numpy(buffers.t)]
        inputs += [torch.from_numpy(buffers.conditions[c.name]) for c in self.spec.conditions]
        out = torch.from_numpy(buffers.out)

        def call() -> None:
            with torch.inference_mode():
                result = module(*inputs)
                if result.shape != out.shape:  # copy_ would broadcast
                    raise BackendError(
                        f"the module returned shape {tuple(result.shape)}, "
                        f"expected {tuple(out.shape)}"
                    )
                out.copy_(result)

        return call

    def describe(self) -> dict[str, Any]:
        """What runs: backend, device, version, threads."""
        return {
            "backend": "torch",
            "device": "cpu",
            "precision": "fp32",
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
        }
