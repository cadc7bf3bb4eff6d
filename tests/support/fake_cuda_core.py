"""A cuda.core whose GPU is the PTX emulator: arguments are addresses of CPU tensors."""

import dataclasses
import types

import numpy as np
import torch
from ptx_emulator import Kernel, Memory


class FakeCore:
    """What was loaded and launched; machine code is only noted, PTX runs.

    Attributes:
        capability: Of the GPU.
        tensors: The memory that kernels may touch.
        fails: What loading a kernel raises, or None.
    """

    def __init__(self):
        self.capability, self.fails = (8, 9), None
        self.tensors, self.loaded, self.launches = [], [], []

    def add(self, buffers):
        """Makes the buffers' tensors the GPU's memory."""
        for field in dataclasses.fields(buffers):
            value = getattr(buffers, field.name)
            values = value if isinstance(value, tuple) else (value,)
            self.tensors += [v for v in values if isinstance(v, torch.Tensor)]

    def module(self):
        """Stands for cuda.core."""
        module = types.ModuleType("cuda.core")
        module.ObjectCode = types.SimpleNamespace(
            from_ptx=lambda data: _Code(self, "ptx", data),
            from_cubin=lambda data: _Code(self, "cubin", data),
        )
        module.LaunchConfig = lambda **options: options
        module.launch = self._launch
        return module

    def _launch(self, stream, config, kernel, *values):
        assert stream == "stream"
        self.launches.append(config)
        kind, _, data = kernel
        if kind != "ptx":
            return
        code = Kernel(data.decode())
        assert len(values) == len(code.parameters)
        memory, arguments = Memory(), []
        for value in values:
            if isinstance(value, np.int32):  # a count; addresses are plain integers
                arguments.append(int(value))
            else:
                arguments.append(self._memory(value))
        code.run(config["grid"], arguments, memory)

    def _memory(self, address):
        for tensor in self.tensors:
            if tensor.data_ptr() == address:
                bits = tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor
                return bits.numpy()
        return 0 if address == 0 else np.zeros(64, np.int64)  # a launch that does nothing


@dataclasses.dataclass
class _Code:
    core: FakeCore
    kind: str
    data: bytes

    def get_kernel(self, name):
        if self.core.fails is not None:
            raise self.core.fails
        self.core.loaded.append((self.kind, name, self.data))
        return self.core.loaded[-1]
