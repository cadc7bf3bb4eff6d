"""A network beside the denoiser in ONNX Runtime, on a CPU or in its CUDA provider."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from revstep.engine.backends.onnx_cpu import TYPES, CpuSession, onnx_session
from revstep.engine.backends.part import ROWS_A_CALL
from revstep.engine.backends.signature import Port
from revstep.engine.errors import BackendError


class OrtPart:
    """A graph in ONNX Runtime. Thread-safe.

    Args:
        graph: The .onnx file.
        who: What it is, for errors.
        threads: On a CPU: threads inside an operator; None: as many as the process may use.
        gpu: Number of the GPU; None: the CPU.

    Raises:
        BackendError: As ``onnx_session``.
    """

    rows = ROWS_A_CALL

    def __init__(
        self, graph: Path, who: str, *, threads: int | None = None, gpu: int | None = None
    ) -> None:
        self._who, self._gpu = who, gpu
        self._shared: contextlib.AbstractContextManager[Any] = (
            CpuSession(graph, threads=threads, who=who)
            if gpu is None
            else contextlib.nullcontext(onnx_session(graph, gpu=gpu, who=who))
        )
        with self._shared as session:
            self.inputs, self.outputs = (
                [Port(p.name, p.type, TYPES.get(p.type), p.shape) for p in ports]
                for ports in (session.get_inputs(), session.get_outputs())
            )

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Sequence[NDArray[Any]]:
        """See ``PartGraph``."""
        with self._shared as session:
            try:
                found: list[NDArray[Any]] = session.run(None, dict(feeds))
            except Exception as error:  # ONNX Runtime's own error classes share no base
                raise BackendError(f"{self._who} failed: {error}") from error
        return found

    def describe(self) -> dict[str, Any]:
        """See ``PartGraph``."""
        import onnxruntime as ort

        device = "cpu" if self._gpu is None else f"cuda:{self._gpu}"
        return {"backend": "onnxruntime", "version": ort.__version__, "device": device}
