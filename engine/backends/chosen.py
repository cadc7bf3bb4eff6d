"""Several networks as one: for each number of rows the one that was chosen for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from revstep.engine.backends.protocol import CompilesRows, Denoiser, NetworkBuffers
from revstep.engine.spec.denoiser import DenoiserSpec


class Chosen(NamedTuple):
    """What runs a number of rows.

    Attributes:
        denoiser: The network.
        details: What is said of it besides what it says itself.
    """

    denoiser: Denoiser
    details: dict[str, Any]


class ChosenDenoiser:
    """A denoiser that binds N rows to the network that was chosen for N.

    That is the one of the smallest number that is at least N, or else of the largest; no call is
    padded.

    Args:
        chosen: Number of rows -> what was chosen for it; at least one.
    """

    def __init__(self, chosen: Mapping[int, Chosen]) -> None:
        self._chosen = dict(sorted(chosen.items()))

    @property
    def spec(self) -> DenoiserSpec:
        """The same of all."""
        return next(iter(self._chosen.values())).denoiser.spec

    @property
    def rows(self) -> tuple[int, ...]:
        """The numbers of rows that something was chosen for."""
        return tuple(self._chosen)

    @property
    def compiles_rows(self) -> bool:
        """Whether any of them is compiled anew for every number of rows."""
        return any(
            isinstance(one.denoiser, CompilesRows) and one.denoiser.compiles_rows
            for one in self._chosen.values()
        )

    def bind(self, buffers: NetworkBuffers) -> Callable[[], None]:
        """A call of the network that was chosen for so many rows."""
        wanted = len(buffers.t)
        rows = next((n for n in self._chosen if n >= wanted), self.rows[-1])
        return self._chosen[rows].denoiser.bind(buffers)

    def describe(self) -> dict[str, Any]:
        """What runs, of all together; and by number of rows, as ``chosen``."""
        found = {n: {**one.denoiser.describe(), **one.details} for n, one in self._chosen.items()}

        def of_all(name: str) -> list[Any]:
            return list(dict.fromkeys(values[name] for values in found.values()))

        return {
            "backend": ", ".join(of_all("backend")),
            "version": ", ".join(of_all("version")),
            "device": "cpu",
            "precision": ", ".join(of_all("precision")),
            "threads": max(of_all("threads")),
            "chosen": [{"rows": n, **values} for n, values in found.items()],
        }
