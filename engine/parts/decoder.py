"""The latent decoder of a bundle: final states to images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.signature import check_dims
from revstep.engine.errors import NonFiniteError
from revstep.engine.parts.network import ROWS_A_CALL, WHO, shared_session
from revstep.engine.parts.tiles import decode_tiles
from revstep.engine.spec.denoiser import Decoder


class LatentDecoder:
    """images = decoder(x0 / scale + shift), in ONNX Runtime.

    Args:
        graph: ``decoder.onnx`` of a bundle.
        spec: Scale, shift and the decoded shape.
        threads: On a CPU: threads inside an operator; None: as many as the process may use.
        gpu: Number of the GPU; None: the CPU.

    Raises:
        BackendError: As ``onnx_session``, or its output is not of the spec's shape.
    """

    def __init__(
        self, graph: Path, spec: Decoder, *, threads: int | None = None, gpu: int | None = None
    ) -> None:
        self._spec = spec
        who = f"the bundle's latent decoder, {WHO}"
        self._shared = shared_session(graph, who, threads=threads, gpu=gpu)
        with self._shared as session:
            given, made = session.get_inputs()[0], session.get_outputs()[0]
            if spec.tile is None:
                check_dims(graph, "the output", made.shape, (1, *spec.shape))
            else:
                check_dims(graph, "the input", given.shape, (*given.shape[:2], *spec.tile))
            self._input = given.name

    def __call__(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *latent shape) float32 to (n, *decoded shape) float32."""
        out = np.empty((len(latents), *self._spec.shape), dtype=np.float32)
        for first in range(0, len(latents), ROWS_A_CALL):
            part = latents[first : first + ROWS_A_CALL]
            scaled = part / np.float32(self._spec.scale) + np.float32(self._spec.shift)
            whole = self._spec.tile is None
            out[first : first + len(part)] = (
                self._run(scaled) if whole else decode_tiles(scaled, self._spec, self._run)
            )
        if not np.all(np.isfinite(out)):
            raise NonFiniteError("the decoder gave NaN or infinity: check the latent scale")
        return out

    def _run(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._shared as session:
            pictures: NDArray[np.float32] = session.run(None, {self._input: latents})[0]
        return pictures
