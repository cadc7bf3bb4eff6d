"""``Kind``: a kind of checkpoint, and a small one of it with what its samples should be."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from revstep.engine.engine import Engine

PRECISIONS = ("fp32", "fp16")

Compared = tuple[NDArray[Any], NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Made:
    """A small checkpoint.

    Attributes:
        export: Exports it in these precisions as the bundle at the path.
        whole: A run of the bundle's engine, and the same run by what it is held to.
        scale: What the error is told in: 0 for the RMS of what it is held to, else a number, such
            as the range of a picture.
    """

    export: Callable[[Path, Sequence[str]], object]
    whole: Callable[[Engine], Compared]
    scale: float = 0.0


@dataclasses.dataclass(frozen=True)
class Kind:
    """A row of the table.

    Attributes:
        name: Of the kind, for people.
        source: How it comes in: ``diffusers folder``, ``pipeline``, ``factory``, ``ONNX file``.
        against: What its whole runs are held to.
        make: Makes a small one in a folder.
        needs: Packages without which it can't be made, as they are imported.
    """

    name: str
    source: str
    against: str
    make: Callable[[Path], Made]
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        """The packages that aren't here."""
        return [name for name in self.needs if find_spec(name) is None]


def error_of(compared: Compared, scale: float) -> float:
    """The largest difference over the scale; infinite where a value is not finite."""
    got, want = (np.asarray(a, dtype=np.float64) for a in compared)
    if got.shape != want.shape:
        raise ValueError(f"the run gave the shape {got.shape}, expected {want.shape}")
    if not np.isfinite(got).all():
        return float("inf")
    scale = scale or float(np.sqrt(np.mean(want**2))) or 1.0
    return float(np.abs(got - want).max() / scale)
