"""``onnxruntime``: the loop by hand over the bundle's graph, in a plain session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.bench.baselines.host_loop import HostLoop
from revstep.bench.baselines.protocol import Baseline, Given
from revstep.engine.backends.onnx_cpu import onnx_session
from revstep.engine.errors import BackendError
from revstep.engine.message import Argument

if TYPE_CHECKING:
    import torch


def make(given: Given) -> Baseline:
    """The baseline: on a GPU its steps are torch's, so that nothing is copied between two calls.

    Raises:
        BackendError: ONNX Runtime has not the precision here, or no CUDA.
    """
    import onnxruntime as ort

    title = f"ONNX Runtime {ort.__version__}, {given.precision}, steps in"
    if given.device != "cpu":
        return _on_gpu(given, f"{title} torch")
    if given.precision == "bf16":
        raise BackendError(
            "ONNX Runtime has no bf16 products on a CPU, so that the baseline 'onnxruntime' can't "
            "do the same work: use ",
            Argument("precision", "fp32"),
            ", or leave it out of --vs",
        )
    session = onnx_session(given.work.bundle.graph(given.precision), threads=given.threads)
    outputs = [session.get_outputs()[0].name]

    def call(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        out: NDArray[np.float32] = session.run(outputs, inputs)[0]
        return out

    return HostLoop(given, call, f"{title} numpy")


def _on_gpu(given: Given, title: str) -> Baseline:
    import torch

    from revstep.bench.baselines.torch_loop import TorchLoop

    device = torch.device(given.device)
    stream: Any = torch.cuda.current_stream(device)
    options = {"user_compute_stream": str(stream.cuda_stream)}
    graph = given.work.bundle.graph(given.precision)
    session = onnx_session(graph, gpu=device.index or 0, gpu_options=options)
    return TorchLoop(given, BoundSession(given, session, device), title)


class BoundSession:
    """A session on tensors, as a module of (x, t, *conditions).

    Args:
        given: Gives the inputs' names.
        session: An ONNX Runtime session on the tensors' device.
        device: That device.
    """

    def __init__(self, given: Given, session: Any, device: torch.device) -> None:
        self._names = [
            *(given.spec.name, *(time.name for time in given.spec.times)),
            *(c.name for c in given.spec.conditions),
        ]
        self._session, self._device = session, device
        self._output = session.get_outputs()[0].name
        self._shape = (given.rows, *given.spec.output_shape)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The output (rows, *output_shape), a tensor of its own."""
        import torch

        binding = self._session.io_binding()
        out = torch.empty(self._shape, device=self._device)
        kept = [tensor.contiguous() for tensor in inputs]
        for name, tensor in zip(self._names, kept, strict=True):
            binding.bind_input(name, *self._memory(tensor))
        binding.bind_output(self._output, *self._memory(out))
        self._session.run_with_iobinding(binding)
        return out

    def _memory(self, tensor: torch.Tensor) -> tuple[Any, ...]:
        dtype = np.dtype(str(tensor.dtype).removeprefix("torch."))
        kind, number = self._device.type, self._device.index or 0
        return kind, number, dtype, tuple(tensor.shape), tensor.data_ptr()
