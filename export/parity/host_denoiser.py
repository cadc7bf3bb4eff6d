"""A denoiser on a device, called with numpy arrays: what the parity check runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.backends.trt.denoiser import TrtDenoiser


class HostDenoiser:
    """Copies rows to the device of a denoiser with one plan, and back, around every call.

    Attributes:
        spec: The denoiser's spec, its batch narrowed to the plan's rows.
    """

    def __init__(self, denoiser: TrtDenoiser) -> None:
        self._denoiser = denoiser
        self.spec = dataclasses.replace(denoiser.spec, batch=denoiser.rows[0])

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that runs the network on ``buffers``, in place."""
        denoiser, host = self._denoiser, buffers.tensors()
        device = NetworkBuffers.allocate(self.spec, len(host.t), denoiser.dtype, denoiser.device)
        call = denoiser.bind(device)

        def run() -> None:
            device.x.copy_(host.x)
            device.t.copy_(host.t)
            if device.second is not None:
                device.second.copy_(host.second)
            for name, values in host.conditions.items():
                device.conditions[name].copy_(values)
            call()
            host.out.copy_(device.out)  # waits for the device

        return run

    def describe(self) -> dict[str, Any]:
        """As the denoiser on the device."""
        return self._denoiser.describe()
