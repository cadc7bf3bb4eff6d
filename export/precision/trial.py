"""What a reduced graph is tried on: the denoiser's reference, or that of a network beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.onnx_cpu import OrtDenoiser
from revstep.engine.spec.denoiser import DenoiserSpec
from revstep.export.graph.check import open_part
from revstep.export.module.part import Part
from revstep.export.parity.bounds import Bounds
from revstep.export.parity.check import check_parity
from revstep.export.parity.parts import check_part_parity
from revstep.export.precision.ranges import RangeDenoiser, ranges_session

Figures = dict[str, dict[str, float]]

WIDE = Bounds(1e30, 1e30)  # the float32 graph is held to its own bound elsewhere


class Trial(Protocol):
    """Inputs and outputs of a float32 graph, and how forms of it are run on them."""

    @property
    def states(self) -> tuple[str, ...]:
        """Inputs that are more than a time or a condition; what needs none of them is cheap."""
        ...

    def ranges(self, path: Path, names: list[str], threads: int) -> Mapping[str, float]:
        """The largest finite absolute value of each tensor of a graph of ``add_ranges``."""
        ...

    def figures(self, path: Path, precision: str, bounds: Bounds, threads: int) -> Figures:
        """Error and bound of each check of a graph.

        Raises:
            ParityError: An error above its bound.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class DenoiserTrial:
    """The denoiser: forward passes, edges, and a DDIM-20 run."""

    spec: DenoiserSpec
    reference: Mapping[str, NDArray[Any]]

    @property
    def states(self) -> tuple[str, ...]:
        """The noisy state."""
        return (self.spec.name,)

    def ranges(self, path: Path, names: list[str], threads: int) -> Mapping[str, float]:
        """See ``Trial``."""
        denoiser = RangeDenoiser(path, names, self.spec, threads)
        check_parity(denoiser, self.reference, "fp32", WIDE)
        return denoiser.ranges

    def figures(self, path: Path, precision: str, bounds: Bounds, threads: int) -> Figures:
        """See ``Trial``."""
        denoiser = OrtDenoiser(path, self.spec, threads=threads)
        return check_parity(denoiser, self.reference, precision, bounds)


@dataclasses.dataclass(frozen=True, slots=True)
class PartTrial:
    """A network beside the denoiser: one forward pass."""

    part: Part
    reference: Mapping[str, NDArray[Any]]

    @property
    def states(self) -> tuple[str, ...]:
        """All inputs: nothing is computed without them."""
        return tuple(self.part.names)

    def ranges(self, path: Path, names: list[str], threads: int) -> Mapping[str, float]:
        """See ``Trial``."""
        session = ranges_session(path, threads)
        inputs = {n: self.reference[f"{self.part.key}.in.{n}"] for n in self.part.names}
        found: NDArray[np.float32] = session.run(None, inputs)[-1]
        return dict(zip(names, map(float, found), strict=True))

    def figures(self, path: Path, precision: str, bounds: Bounds, threads: int) -> Figures:
        """See ``Trial``."""
        network = open_part(path, self.part, threads)
        return {"forward": check_part_parity(network, self.part, self.reference, bounds)}
