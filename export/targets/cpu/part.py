"""A network beside the denoiser in a candidate's process: opened, checked and called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.backends.registry import BACKENDS, WantedPart
from revstep.engine.bundle.reader import Bundle
from revstep.engine.parts.tiles import call_shapes
from revstep.export.module.part import parts_of
from revstep.export.parity.bounds import resolve_bounds
from revstep.export.parity.parts import Run
from revstep.export.targets.parts import DECODER, ENCODER, check_part_run, part_run

Arrays = Mapping[str, NDArray[Any]]


class PartCandidate:
    """One of a bundle's networks beside the denoiser, opened.

    Args:
        bundle: The bundle.
        parity: Its reference.
        key: The network's.
        runtime: A backend's name.
        precision: ``fp32``, or ``bf16``: the fp32 graph with products in bfloat16.
        threads: Threads inside an operator.

    Raises:
        BackendError: The runtime is missing or refuses it.
    """

    def __init__(
        self, bundle: Bundle, parity: Arrays, key: str, runtime: str, precision: str, threads: int
    ) -> None:
        opener = BACKENDS[runtime].part_on_cpu
        assert opener is not None
        self._bundle, self._parity, self._key = bundle, parity, key
        self._opened = opener(WantedPart(bundle, key, precision, key, threads))
        self._limit = resolve_bounds(precision, None)
        self.rows = self._opened.rows
        self.version = str(self._opened.describe()["version"])

    def check(self, given: Path) -> dict[str, Any]:
        """Its figures; what an encoder gives for the reference's inputs goes into a file.

        Raises:
            ParityError: NaN, or an error above the bound.
        """
        part = next(p for p in parts_of(self._bundle.spec) if p.key == self._key)
        network = part_run(self._bundle, part, self._opened, "fp32")

        def run(values: Arrays) -> Sequence[NDArray[Any]]:
            found = network(values)
            if self._key.startswith(ENCODER):
                np.savez(given, *found)
            return found

        return {"forward": check_part_run(self._bundle, part, run, self._parity, self._limit)}

    def bound(self, rows: int) -> Callable[[], object]:
        """A call with so many rows of the reference; called once."""
        if self._key == DECODER:
            shape, name = call_shapes(self._bundle.spec)[0], self._opened.inputs[0].name
            final = self._parity["ddim20.final"]
            cut = (slice(None), *(slice(n) for n in shape))
            feeds = {name: final[cut]}
        else:
            names = [port.name for port in self._opened.inputs]
            feeds = {name: self._parity[f"{self._key}.in.{name}"] for name in names}
        taken = {n: np.ascontiguousarray(v[np.arange(rows) % len(v)]) for n, v in feeds.items()}
        call = functools.partial(self._opened.run, taken)
        call()
        return call


def encoder_given(file: Path) -> Run:
    """An encoder that gives what is in a file of ``check``."""
    with np.load(file) as archive:
        outputs = [archive[name] for name in archive.files]
    return lambda inputs: outputs
