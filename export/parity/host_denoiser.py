"""A denoiser on a device, called with numpy arrays: what the parity check runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.backends.trt.denoiser import TrtDenoiser

__all__ = ["HostDenoiser"]


class HostDenoiser:
    """Copies rows to the device and back around every call. Slow, and right.

    Args:
        denoiser: The denoiser, with one engine.

    Attributes:
        spec: The denoiser's spec, its batch narrowed to the engine's rows.
    """

    def __init__(self, denoiser: TrtDenoiser) -> None:
        self._denoiser = denoiser
        self.spec = dataclasses.replace(denoiser.spec, batch=denoiser.rows[0])

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that runs the network on ``buffers``, in place."""
        import torch

        denoiser = self._denoiser
        conditions = {
            name: torch.from_numpy(array).to(denoiser.device)
            for name, array in buffers.conditions.items()
        }
        x = torch.from_numpy(buffers.x).to(denoiser.device, denoiser.dtype)
        t = torch.from_numpy(buffers.t).to(denoiser.device)
        out = torch.zeros(buffers.out.shape, dtype=denoiser.dtype, device=denoiser.device)
        call = denoiser.bind(_DeviceRows(x, t, conditions, out))

        def run() -> None:
            x.copy_(torch.from_numpy(buffers.x))
            t.copy_(torch.from_numpy(buffers.t))
            for name, array in buffers.conditions.items():
                conditions[name].copy_(torch.from_numpy(array))
            call()
            buffers.out[:] = out.float().cpu().numpy()  # waits for the device

        return run

    def describe(self) -> dict[str, Any]:
        """As the denoiser on the device."""
        return self._denoiser.describe()


@dataclasses.dataclass(slots=True)
class _DeviceRows:
    """Tensors of one call."""

    x: Any
    t: Any
    conditions: dict[str, Any]
    out: Any
