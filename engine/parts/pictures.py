"""Pictures to latents: the picture encoder of a bundle, and what callers give it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from revstep.engine.arrays import array_from, bytes_as_floats, floats
from revstep.engine.checks import got
from revstep.engine.errors import ArgumentError, ArgumentTypeError, NonFiniteError
from revstep.engine.log import log
from revstep.engine.spec.denoiser import DenoiserSpec

RGB = 3  # channels
Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class LatentEncoder:
    """latents = (encode(pictures) - shift) * scale.

    Args:
        spec: The denoiser's spec, with a picture encoder and a decoder.
        network: (n, *picture shape) float32 in the decoder's range, to (n, *latent shape).
    """

    def __init__(self, spec: DenoiserSpec, network: Network) -> None:
        assert spec.picture_encoder is not None
        assert spec.decoder is not None
        self.shape = spec.picture_encoder.shape
        self._latents, self._decoder, self._network = spec.shape, spec.decoder, network

    def __call__(self, pictures: object, what: str = "pictures") -> NDArray[np.float32]:
        """Latents (n, *shape) of n pictures, or (*shape) of one without an axis for rows.

        Args:
            pictures: Floats (n, C, H, W) or (C, H, W) in the decoder's value range, bytes
                (n, H, W, C) or (H, W, C), a PIL image or a list of such.
            what: The argument's name, for errors.

        Raises:
            ArgumentTypeError, ArgumentError: Of another shape, no numbers, or bytes as floats.
            NonFiniteError: The network gave NaN or infinity.
        """
        return self.latents(self.pixels(pictures, what), what)

    def latents(self, pixels: NDArray[np.float32], what: str) -> NDArray[np.float32]:
        """Latents of what ``pixels`` gave; raises ``NonFiniteError``."""
        one = pixels.ndim == len(self.shape)
        rows = pixels[None] if one else pixels
        latents = (self._network(np.ascontiguousarray(rows)) - self._decoder.shift) * np.float32(
            self._decoder.scale
        )
        if not np.isfinite(latents).all():
            raise NonFiniteError(f"the picture encoder gave NaN or infinity for {what}")
        return np.asarray(latents[0] if one else latents, np.float32)

    def takes(self, value: Any) -> bool:
        """Whether a caller's value is pictures, not latents, by its shape or kind."""
        if value is None:
            return False
        if _is_image(value) or _has_images(value):
            return True
        if (shape := _shape(value)) is None:
            return False
        channels, *size = self.shape
        bytes_shape = (*size, channels)
        is_bytes = getattr(value, "dtype", None) == np.uint8 and shape[-3:] == bytes_shape
        return bool(is_bytes) or (shape[-len(self.shape) :] == self.shape != self._latents)

    def check(self, value: Any, what: str) -> None:
        """Refuses an array that is neither pictures nor latents.

        Raises:
            ArgumentError: It is of another shape than both.
        """
        if value is None or self.takes(value):
            return
        shape = array_from(value, what).shape
        if shape[-len(self._latents) :] != self._latents:
            raise ArgumentError(
                f"{what} has shape {shape}; allowed: pictures {self.shape}, latents "
                f"{self._latents}, or n of such",
                what,
            )

    def blank(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latents of the shape that these pictures give, zeros."""
        return np.zeros((*pixels.shape[: -len(self.shape)], *self._latents), np.float32)

    def mask(self, mask: Any) -> Any:
        """A mask of the pictures' size brought to the latents', by its nearest pixels."""
        if _is_image(mask):
            mask = self._grey(mask)
        elif _has_images(mask):
            mask = [self._grey(one)[None] for one in mask]
        array = array_from(mask, "mask")
        size, small = self.shape[-2:], self._latents[-2:]
        if array.shape[-2:] != size or size == small:
            return mask
        rows, columns = (np.arange(n) * m // n for n, m in zip(small, size, strict=True))
        return array[..., rows[:, None], columns]

    def pixels(self, pictures: Any, what: str) -> NDArray[np.float32]:
        """The pictures as the network takes them, with an axis for rows or without.

        Raises:
            ArgumentTypeError, ArgumentError: Of another shape, no numbers, or RGB's bytes as
                floats; of other channels these are warned of.
        """
        low, high = self._decoder.value_range
        if _is_image(pictures):
            pictures = self._bytes(pictures, what)
        elif _has_images(pictures):
            pictures = np.stack([self._bytes(p, what) for p in pictures])
        given = array = array_from(pictures, what)
        if array.dtype == np.uint8 and array.ndim >= len(self.shape):
            array = np.moveaxis(array, -1, -3).astype(np.float32) / 255.0 * (high - low) + low
        array = floats(array, what)
        if array.shape[-len(self.shape) :] != self.shape or array.ndim > len(self.shape) + 1:
            channels, *size = self.shape
            raise ArgumentError(
                f"{what} is {given.dtype} of shape {given.shape}; pictures are floats {self.shape} "
                f"of {low:g} to {high:g}, bytes {(*size, channels)}, or n of such, or PIL images "
                f"of {self.shape[-1]} x {self.shape[-2]}",
                what,
            )
        if text := bytes_as_floats(array, (low, high)):
            if self.shape[-3] != RGB:  # of other data the range may never have been looked at
                log.warning("%s %s", what, text)
            else:
                raise ArgumentError(f"{what} {text}, or uint8 {(*self.shape[1:], RGB)}", what)
        return array

    def _bytes(self, image: Any, what: str) -> NDArray[np.uint8]:
        channels, height, width = self.shape
        _check_image(image, what, (height, width))
        return np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(
            height, width, channels
        )

    def _grey(self, image: Any) -> NDArray[np.float32]:
        """A mask's brightness, 0 to 1."""
        _check_image(image, "mask", self.shape[-2:], self._latents[-2:])
        return np.asarray(image.convert("L"), np.float32) / np.float32(255.0)


def _check_image(image: Any, what: str, *sizes: tuple[int, ...]) -> None:
    """Refuses what is no PIL image, or one of another (height, width).

    Raises:
        ArgumentTypeError, ArgumentError: It is so.
    """
    if not _is_image(image):
        raise ArgumentTypeError(
            f"{what} is a list with PIL images and {got(image)}: give PIL images alone, or one "
            "array",
            what,
        )
    if image.size[::-1] not in sizes:
        height, width = sizes[0]
        raise ArgumentError(
            f"{what} is a picture of {image.size[0]} x {image.size[1]}; this bundle takes "
            f"{width} x {height}: resize it",
            what,
        )


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of an array, or of nested lists; None: they are of different lengths."""
    try:
        return tuple(np.shape(value))
    except ValueError:
        return None


def _has_images(value: object) -> bool:
    """Whether it is a list with a PIL image in it."""
    return isinstance(value, list | tuple) and any(map(_is_image, value))


def _is_image(value: object) -> bool:
    """Whether it is a PIL image, without importing PIL."""
    return hasattr(value, "convert") and hasattr(value, "getbands")
