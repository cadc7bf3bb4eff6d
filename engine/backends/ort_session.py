"""The ``onnxruntime`` backend: an exported graph, with I/O bound to fixed buffers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from revstep.engine.denoiser import NetworkBuffers
from revstep.engine.errors import BackendError
from revstep.engine.spec import DenoiserSpec

__all__ = ["OrtDenoiser", "onnx_session"]

TYPES = {"tensor(float)": np.dtype(np.float32), "tensor(int64)": np.dtype(np.int64)}


def onnx_session(graph: Path, *, threads: int | None = None) -> Any:
    """An ONNX Runtime session on the CPU.

    Args:
        graph: The .onnx file.
        threads: Threads inside an operator; None is ONNX Runtime's choice (all cores).

    Raises:
        BackendError: ONNX Runtime is missing, or refuses the graph.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise BackendError(
            "the 'onnxruntime' backend needs ONNX Runtime, which is not installed; "
            "pip install 'revstep[cpu]'"
        ) from error
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own error classes share no base of their own
        raise BackendError(f"ONNX Runtime {ort.__version__} can't load {graph}: {error}") from error
    if session.get_providers()[0] != "CPUExecutionProvider":
        raise BackendError(f"ONNX Runtime chose {session.get_providers()[0]} instead of the CPU")
    return session


class OrtDenoiser:
    """A denoiser graph in ONNX Runtime, on the CPU.

    Args:
        graph: The .onnx file of a bundle.
        spec: Its spec; the graph's inputs must be the spec's.
        threads: Threads inside an operator; None is ONNX Runtime's choice.

    Raises:
        BackendError: As ``onnx_session``, or the graph does not fit the spec.
    """

    def __init__(self, graph: Path, spec: DenoiserSpec, *, threads: int | None = None) -> None:
        if threads is not None and not isinstance(threads, int):
            raise TypeError(f"threads must be a whole number or None; got {threads!r}")
        if threads is not None and (isinstance(threads, bool) or threads < 1):
            raise ValueError(f"threads={threads!r} is out of range; it must be at least 1")
        self.spec = spec
        self.threads = threads
        self._session = onnx_session(graph, threads=threads)
        self._check(graph)

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """Binds the buffers once; the call runs the session on them."""
        binding = self._session.io_binding()
        for name, array in self._inputs(buffers).items():
            binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        out = buffers.out
        binding.bind_output(self._output, "cpu", 0, out.dtype, out.shape, out.ctypes.data)
        session = self._session

        def call(_keep: NetworkBuffers = buffers) -> None:
            session.run_with_iobinding(binding)

        return call

    def describe(self) -> dict[str, Any]:
        """Backend, version, device, provider and threads."""
        import onnxruntime as ort

        return {
            "backend": "onnxruntime",
            "version": ort.__version__,
            "device": "cpu",
            "provider": self._session.get_providers()[0],
            "threads": self.threads or "all cores",
        }

    def _inputs(self, buffers: NetworkBuffers) -> dict[str, np.ndarray[Any, Any]]:
        return {self.spec.name: buffers.x, self.spec.time.name: buffers.t, **buffers.conditions}

    def _check(self, graph: Path) -> None:
        given = {i.name: i for i in self._session.get_inputs()}
        wanted = self._inputs(NetworkBuffers.allocate(self.spec, 1))
        if set(given) != set(wanted):
            raise BackendError(
                f"{graph.name} has the inputs {', '.join(given)}; its spec names "
                f"{', '.join(wanted)}: export the bundle again"
            )
        for name, array in wanted.items():
            if TYPES.get(given[name].type) != array.dtype:
                raise BackendError(
                    f"{graph.name}: input {name!r} is {given[name].type}; the spec says "
                    f"{array.dtype}: export the bundle again"
                )
            if not _fits(given[name].shape, array.shape[1:]):
                raise BackendError(
                    f"{graph.name}: input {name!r} is {given[name].shape}; the spec says "
                    f"{array.shape[1:]} after the batch: export the bundle again"
                )
        outputs = self._session.get_outputs()
        if len(outputs) != 1:
            raise BackendError(f"{graph.name} has {len(outputs)} outputs; a denoiser has one")
        if not _fits(outputs[0].shape, self.spec.output_shape):
            raise BackendError(
                f"{graph.name} gives {outputs[0].shape}; the spec says {self.spec.output_shape} "
                "after the batch: export the bundle again"
            )
        self._output = outputs[0].name


def _fits(shape: list[int | str | None], sample: tuple[int, ...]) -> bool:
    """Whether a graph's shape is (batch, *sample); a symbolic axis fits any size."""
    return len(shape) == len(sample) + 1 and all(
        d == want or not isinstance(d, int) for d, want in zip(shape[1:], sample, strict=True)
    )
