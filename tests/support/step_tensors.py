"""A step's numpy buffers as torch tensors."""

import dataclasses

import numpy as np
import torch

from revstep.kernels import StepBuffers


def tensors_of(buffers, device="cpu"):
    """Copies on ``device``; uint16 arrays become bfloat16, the seeds int64."""

    def tensor(array):
        if array.dtype == np.uint64:
            array = array.view(np.int64)
        if array.dtype == np.uint16:
            host = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        else:
            host = torch.from_numpy(array)
        return host.clone().to(device)  # cloned: numpy aligns to 16 bytes only by chance

    def convert(value):
        if isinstance(value, tuple):
            return tuple(tensor(array) for array in value)
        return tensor(value) if isinstance(value, np.ndarray) else value

    names = [field.name for field in dataclasses.fields(buffers)]
    return StepBuffers(**{name: convert(getattr(buffers, name)) for name in names})
