"""Arrays from .npy files that strangers send."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = b"\x93NUMPY"
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def array_of_npy(text: str) -> NDArray[Any]:
    """The array of a .npy file, given as base64.

    numpy makes room for what a file says that it holds before it reads it: a few bytes could ask
    for any memory, so the header is compared with the file's length first.

    Raises:
        ValueError: It is no base64, no .npy file, cut short, or holds no finite numbers.
    """
    try:
        data = base64.b64decode(text, validate=True)
        found = _read(data)
    except Exception as error:  # of numpy's parser come many kinds
        raise ValueError(f"its npy is no base64 of a .npy file: {error}") from error
    if not np.isfinite(found).all():
        raise ValueError("its npy holds NaN or infinity")
    return found


def _read(data: bytes) -> NDArray[Any]:
    file = io.BytesIO(data)
    if not data.startswith(MAGIC):
        raise ValueError("it doesn't begin as one")
    version = np.lib.format.read_magic(file)
    if version not in HEADERS:
        raise ValueError(f"its version is {version}; allowed: {', '.join(map(str, HEADERS))}")
    shape, _, dtype = HEADERS[version](file)
    if dtype.kind not in "biuf":
        raise ValueError(f"it holds {dtype}; allowed: numbers")
    wanted, got = math.prod(shape) * dtype.itemsize, len(data) - file.tell()
    if wanted != got or min(shape, default=0) < 0:
        raise ValueError(f"{dtype} of shape {shape} takes {wanted} bytes; it has {got}")
    file.seek(0)
    found: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
    return found
