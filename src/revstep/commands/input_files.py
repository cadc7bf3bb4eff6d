"""Pictures and ``.npy`` files as arrays: starts, known samples, masks, conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.commands.extras import need
from revstep.engine.runtime.samples import picture_problem
from revstep.engine.spec.denoiser import DenoiserSpec


def load_array(path: Path, what: str) -> NDArray[Any]:
    """The array of a ``.npy`` file; never unpickles.

    Raises:
        ValueError: Not a readable array of numbers.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):  # numpy's words advise to unpickle
        raise ValueError(
            f"{what}: {path} is no readable .npy file of numbers; write it with numpy.save"
        ) from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(f"{what}: {path} must hold one array of numbers")
    return array


def read_input(path: Path, name: str, spec: DenoiserSpec) -> NDArray[np.float32]:
    """The array of the option ``start``, ``known`` or ``mask``.

    Where the bundle encodes pictures, those are given, or arrays of its latents.

    Raises:
        ValueError: As ``read_mask`` and ``read_state``.
    """
    shape, value_range = spec.shape, spec.value_range
    if spec.picture_encoder is not None and spec.decoder is not None:
        latents = (
            path.suffix.lower() == ".npy" and load_array(path, f"--{name}").shape[-3:] == shape
        )
        if not latents:
            shape, value_range = spec.picture_encoder.shape, spec.decoder.value_range
    if name == "mask":
        return read_mask(path, "--mask", shape)
    return read_state(path, f"--{name}", shape, value_range)


def read_state(
    path: Path, what: str, shape: tuple[int, ...], value_range: tuple[float, float] | None
) -> NDArray[np.float32]:
    """A sample to begin from or to keep: an array, or a picture scaled to ``value_range``.

    Args:
        path: The file.
        what: The option, for errors.
        shape: Shape of one sample.
        value_range: The data's range, for pictures.

    Returns:
        float32, ``shape`` or (n, *shape).

    Raises:
        ValueError: A wrong shape or size; nothing is resized silently.
    """
    if path.suffix.lower() == ".npy":
        array = np.asarray(load_array(path, what), np.float32)
        if shape not in (array.shape, array.shape[1:]):
            raise ValueError(f"{what}: {path} has shape {array.shape}; expected {shape}")
        return array
    if value_range is None or picture_problem(shape, value_range) is not None:
        raise ValueError(f"{what} must be a .npy file of shape {shape} for this denoiser")
    pixels = _pixels(path, what, "L" if shape[0] == 1 else "RGB", shape[1:])
    lo, hi = value_range
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0) * ((hi - lo) / 255.0) + lo, np.float32)


def read_mask(path: Path, what: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A mask: an array of what broadcasts to ``shape``, or a picture whose white is 1.

    Args:
        path: The file.
        what: The option, for errors.
        shape: Shape of one sample.

    Returns:
        float32; (1, H, W) of a picture.

    Raises:
        ValueError: A picture of another size, or for samples that have no height and width.
    """
    if path.suffix.lower() == ".npy":
        return np.asarray(load_array(path, what), np.float32)
    if len(shape) != 3:
        raise ValueError(f"{what} must be a .npy file that broadcasts to {shape} for this denoiser")
    return np.ascontiguousarray(_pixels(path, what, "L", shape[1:])[None, ..., 0] / 255.0)


def _pixels(path: Path, what: str, mode: str, size: tuple[int, ...]) -> NDArray[np.float32]:
    """(H, W, channels), 0 to 255."""
    need("PIL", purpose="reading pictures")
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            picture = opened.convert(mode)
    except UnidentifiedImageError:
        raise ValueError(f"{what}: {path} is neither a picture nor a .npy file") from None
    if picture.size != (size[1], size[0]):
        raise ValueError(
            f"{what}: {path} is {picture.width} x {picture.height} pixels; this denoiser takes "
            f"{size[1]} x {size[0]}. Resize it first"
        )
    return np.asarray(picture, np.float32).reshape(*size, -1)
