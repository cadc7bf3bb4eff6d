"""The latent decoder of a bundle: final states to images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.part import PartGraph, check_given
from revstep.engine.backends.signature import check_dims
from revstep.engine.errors import NonFiniteError
from revstep.engine.parts.tiles import call_picture, decode_tiles
from revstep.engine.spec.denoiser import Decoder


class LatentDecoder:
    """images = decoder(x0 / scale + shift).

    Args:
        opened: The graph in its runtime.
        graph: ``decoder.onnx`` of a bundle, for errors.
        spec: Scale, shift and the decoded shape.

    Raises:
        BackendError: Its output is not of the spec's shape.
    """

    def __init__(self, opened: PartGraph, graph: Path, spec: Decoder) -> None:
        self._opened, self._spec, self._graph = opened, spec, graph
        given, made = opened.inputs[0], opened.outputs[0]
        if spec.tile is None:
            check_dims(graph, "the output", made.dims, (1, *spec.shape))
        else:
            check_dims(graph, "the input", given.dims, (*given.dims[:2], *spec.tile))
        self._input = given.name

    def __call__(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, *latent shape) float32 to (n, *decoded shape) float32.

        Raises:
            NonFiniteError: The graph gave NaN or infinity.
            BackendError: The runtime failed, or gave another shape.
        """
        shape = call_picture(self._spec, latents.shape[1:])

        def run(part: NDArray[np.float32]) -> NDArray[np.float32]:
            found = self._opened.run({self._input: part})[0]
            check_given(found, (len(part), *shape), self._graph.name)
            return found

        out = np.empty((len(latents), *self._spec.shape), dtype=np.float32)
        rows = self._opened.rows
        for first in range(0, len(latents), rows):
            part = latents[first : first + rows]
            scaled = part / np.float32(self._spec.scale) + np.float32(self._spec.shift)
            whole = self._spec.tile is None
            out[first : first + len(part)] = (
                run(scaled) if whole else decode_tiles(scaled, self._spec, run)
            )
        if not np.all(np.isfinite(out)):
            raise NonFiniteError("the decoder gave NaN or infinity: check the latent scale")
        return out

    def describe(self) -> dict[str, Any]:
        """What runs it, and where."""
        return self._opened.describe()
