"""The file itself as a network: what a bundle made of it is held to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from revstep.engine.backends.onnx_cpu import onnx_session
from revstep.engine.backends.protocol import NetworkBuffers
from revstep.engine.errors import BackendError, ExportError
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.sources.onnx_file.wiring import Wiring


class OriginalDenoiser:
    """A file in ONNX Runtime as it is, its inputs and output brought to revstep's in numpy.

    Raises:
        BackendError: ONNX Runtime is missing, or has no form of the file's types.
    """

    def __init__(self, path: Path, spec: DenoiserSpec, wiring: Wiring, threads: int | None) -> None:
        self.spec = spec
        self._path = path
        self._wiring = wiring
        self._session = onnx_session(path, threads=threads, who="the reference of an ONNX file")
        for port in self._session.get_inputs():
            if port.type == "tensor(bfloat16)":
                raise BackendError(f"ONNX Runtime takes no bfloat16 of numpy's: {port.name!r}")

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call that runs the file on the buffers; an ``ExportError`` where it can't."""
        ours = buffers.inputs(self.spec)
        wiring = self._wiring

        def call() -> None:
            feeds = {f.name: f.values(ours[f.ours]) for f in wiring.feeds}
            try:
                (out,) = self._session.run([wiring.result.name], {**feeds, **wiring.constants})
            except Exception as error:  # ONNX Runtime's own error classes share no base
                raise ExportError(f"{self._path} fails on {_described(feeds)}: {error}") from error
            buffers.out[:] = wiring.result.values(out)

        return call

    def describe(self) -> dict[str, Any]:
        """The backend."""
        return {"backend": "onnxruntime", "device": "cpu"}


def _described(feeds: dict[str, np.ndarray[Any, Any]]) -> str:
    return ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in feeds.items())
