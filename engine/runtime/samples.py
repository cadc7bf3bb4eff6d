"""``Samples``: what a run returns, as numpy, torch or PIL."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import PIL.Image
    import torch


GAP = 2  # pixels between the pictures of a sheet


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The samples of one run.

    Attributes:
        x: float32 (n, *shape): the final states, in the training data's units.
        seeds: uint64 (n,): each sample's own seed.
        sampler: The sampler, as given or its repr.
        steps: Steps asked for.
        calls: Network calls made for each sample.
        value_range: (lo, hi) of the data, for images; None where the spec has none.
        decoded: float32 (n, *decoder shape), where the bundle has a latent decoder.
        x0_trace: float32 (len(x0_steps), n, *shape): the denoised estimates after the steps that
            ``trace_x0`` asked for; None without.
        x0_steps: Those steps, from 1.
    """

    x: NDArray[np.float32]
    seeds: NDArray[np.uint64]
    sampler: str
    steps: int
    calls: int
    value_range: tuple[float, float] | None = None
    decoded: NDArray[np.float32] | None = None
    x0_trace: NDArray[np.float32] | None = None
    x0_steps: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        shape = ", ".join(map(str, self.numpy().shape))
        return f"Samples(float32 ({shape}), {self.sampler}, {self.steps} steps)"

    def numpy(self) -> NDArray[np.float32]:
        """The decoded samples, or the states where there is no decoder; float32 (n, ...)."""
        return self.x if self.decoded is None else self.decoded

    def torch(self) -> torch.Tensor:
        """``numpy()`` as a torch tensor on the same memory (DLPack)."""
        from torch.utils.dlpack import from_dlpack

        return from_dlpack(self.numpy())

    def pil(self) -> list[PIL.Image.Image]:
        """One PIL image per sample.

        Raises:
            ValueError: Samples that are no images: not (C, H, W) with 1 or 3 channels, or without
                a value range.
        """
        return images_from(self.numpy(), self.value_range)


def picture_problem(shape: tuple[int, ...], value_range: tuple[float, float] | None) -> str | None:
    """Why samples of ``shape`` are no pictures; None where ``images_from`` takes them."""
    if value_range is None:
        return "images need a value_range in the spec, such as (-1, 1); it has none"
    if len(shape) != 3 or shape[0] not in (1, 3):
        return f"images need samples of shape (1 or 3, H, W); these are {shape}"
    return None


def images_from(samples: NDArray[np.float32], value_range: tuple[float, float] | None) -> list[Any]:
    """PIL images of (n, C, H, W) samples, their range mapped to 0..255 and clipped.

    Raises:
        ValueError: No value range, or shapes that are no images.
    """
    problem = picture_problem(samples.shape[1:], value_range)
    if value_range is None or problem is not None:
        raise ValueError(f"{problem}: use numpy()")
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("images need Pillow; pip install 'revstep[images]'") from error
    lo, hi = value_range
    scaled = np.clip((samples - lo) / (hi - lo), 0.0, 1.0)
    pixels = np.rint(scaled * 255.0).astype(np.uint8).transpose(0, 2, 3, 1)
    return [Image.fromarray(p[..., 0] if p.shape[-1] == 1 else p) for p in pixels]


def sheet_of(pictures: Sequence[PIL.Image.Image], columns: int) -> PIL.Image.Image:
    """All pictures in rows of ``columns``, two pixels apart on white."""
    from PIL import Image

    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    canvas = Image.new(
        pictures[0].mode, (columns * (width + GAP) + GAP, rows * (height + GAP) + GAP), "white"
    )
    for i, picture in enumerate(pictures):
        row, column = divmod(i, columns)
        canvas.paste(picture, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return canvas
