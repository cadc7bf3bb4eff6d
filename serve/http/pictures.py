"""Samples as what an answer holds: PNG, .npy, base64."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.runtime.samples import images_from, sheet_of


def png_of(values: NDArray[np.float32], value_range: tuple[float, float] | None) -> bytes:
    """One PNG of samples (n, C, H, W): several as a sheet, about as wide as high."""
    pictures = images_from(values, value_range)
    picture = pictures[0]
    if len(pictures) > 1:
        picture = sheet_of(pictures, math.ceil(math.sqrt(len(pictures))))
    file = io.BytesIO()
    picture.save(file, "png")
    return file.getvalue()


def npy_of(values: NDArray[Any]) -> bytes:
    """A .npy file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


def base64_of(values: NDArray[np.float32]) -> str:
    """The values, little-endian and in C order."""
    return text_of(np.ascontiguousarray(values, "<f4").tobytes())


def text_of(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode("ascii")
