"""The ``onnxruntime`` backend on a GPU: bound to torch's memory, on one CUDA stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from revstep.engine.backends.onnx_cpu import check_inputs, onnx_session
from revstep.engine.backends.protocol import NetworkBuffers, index_hint
from revstep.engine.errors import BackendError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.kernels.layout import dtype_name

if TYPE_CHECKING:
    import torch


ON_CPU = "fallback to CPU EP has been explicitly disabled"
# A run may stage copies in pinned memory and free it in a host callback: recorded, a replay would
# copy and free that memory again (onnxruntime issue 15002, pull request 32081).
NOT_CAPTURABLE = "ONNX Runtime's runs can't be recorded in another's CUDA graph"


class OrtCudaDenoiser:
    """A denoiser graph in ONNX Runtime's CUDA provider.

    Args:
        graph: The .onnx file of a bundle; its inputs and output are float32, whatever is inside.
        spec: Its spec.
        device: The CUDA device.

    Attributes:
        stream: The CUDA stream of the session: calls must come with it as torch's current one.
        capturable: Why its runs can't be captured in a CUDA graph.

    Raises:
        BackendError: ONNX Runtime has no CUDA here, or the graph does not fit the spec.
    """

    capturable: str | None = NOT_CAPTURABLE

    def __init__(self, graph: Path, spec: DenoiserSpec, device: torch.device) -> None:
        import torch

        self.spec, self.device, self.dtype = spec, device, torch.float32
        make: Any = torch.cuda.Stream
        self.stream: torch.cuda.Stream = make(device)
        options = {"user_compute_stream": str(self.stream.cuda_stream)}
        gpu = device.index or 0
        self._waits = False
        try:
            self._session = onnx_session(graph, gpu=gpu, gpu_options=options, all_on_gpu=True)
        except BackendError as error:
            if ON_CPU not in str(error):
                raise
            # either a few operators run on the CPU, as those on shapes do, or CUDA is not there at
            # all: that is refused
            self._session = onnx_session(graph, gpu=gpu, gpu_options=options)
            self._waits = True
        self._output = check_inputs(self._session, graph, spec)

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """Binds the tensors' addresses once; the call runs the session on them."""
        import onnxruntime as ort

        spec, gpu = self.spec, self.device.index or 0
        binding = self._session.io_binding()
        for name, tensor in buffers.inputs(spec).items():
            binding.bind_input(name, "cuda", gpu, *_memory(tensor))
        binding.bind_output(self._output, "cuda", gpu, *_memory(buffers.out))
        options = ort.RunOptions()
        if not self._waits:  # the stream orders all; operators on the CPU need the wait
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        session = self._session

        def call(_keep: NetworkBuffers = buffers) -> None:
            try:
                session.run_with_iobinding(binding, options)
            except Exception as error:  # ONNX Runtime's own error classes share no base
                raise BackendError(
                    f"ONNX Runtime {ort.__version__} failed on {self.device}: {error}"
                    f"{index_hint(spec)}"
                ) from error

        return call

    def describe(self) -> dict[str, Any]:
        """Backend, version, device and provider."""
        import onnxruntime as ort
        import torch

        return {
            "backend": "onnxruntime",
            "version": ort.__version__,
            "device": str(self.device),
            "gpu": torch.cuda.get_device_name(self.device),
            "provider": self._session.get_providers()[0],
            "operators_on_cpu": self._waits,
        }


def _memory(tensor: torch.Tensor) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """A tensor's dtype, shape and address."""
    return np.dtype(dtype_name(tensor)), tuple(tensor.shape), tensor.data_ptr()
