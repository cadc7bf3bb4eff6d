"""Samples as files: PNG, numbered PNGs, a grid, ``.npy``; written beside and renamed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.runtime.samples import picture_problem, sheet_of
from revstep.engine.system.files import write_whole

if TYPE_CHECKING:
    from PIL.Image import Image


SUFFIXES = (".png", ".npy")


class Target:
    """Where the samples of one run go; refuses before any work is done.

    Args:
        path: ``x.png`` (one picture, a grid, or numbered ``x-000.png`` ...) or ``x.npy``.
        count: Number of samples.
        grid: One PNG with all of them.
        shape: Shape of one decoded sample.
        value_range: The data's range.

    Raises:
        ValueError: An unknown suffix, or samples that are no pictures.
        FileNotFoundError: The folder doesn't exist.
    """

    def __init__(
        self,
        path: Path,
        *,
        count: int,
        grid: bool,
        shape: tuple[int, ...],
        value_range: tuple[float, float] | None,
    ) -> None:
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            raise ValueError(f"the output must be a .png or .npy file; got {str(path)!r}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"the folder {str(path.parent)!r} does not exist")
        self.path = path
        self.array = path.suffix.lower() == ".npy"
        self.grid = grid
        if self.array and grid:
            raise ValueError("--grid makes a .png; the output is a .npy file")
        problem = None if self.array else picture_problem(shape, value_range)
        if problem is not None:
            raise ValueError(f"these samples are no pictures: {problem}; use -o samples.npy")
        width = max(3, len(str(count - 1)))
        self.paths = (
            [path]
            if self.array or grid or count == 1
            else [path.with_stem(f"{path.stem}-{i:0{width}d}") for i in range(count)]
        )

    def write(self, images: NDArray[np.float32], pictures: Sequence[Image], columns: int) -> None:
        """Writes the array or the pictures."""
        if self.array:
            save_array(self.path, images)
        elif self.grid:
            save_picture(self.path, sheet_of(pictures, columns))
        else:
            for path, picture in zip(self.paths, pictures, strict=True):
                save_picture(path, picture)


def save_picture(path: Path, picture: Image) -> None:
    """Writes one PNG."""
    write_whole(path, lambda file: picture.save(file, format="PNG"))


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Writes one ``.npy`` file."""
    write_whole(path, lambda file: np.save(file, array, allow_pickle=False))
