"""Where the parts of a diffusers folder lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from revstep.engine.errors import ExportError
from revstep.export.sources.diffusers.adapter import FACTORY, PIXELS
from revstep.export.sources.diffusers.config import read_config

DENOISERS = ("unet", "transformer")
SECOND = ("transformer_2", "unet_2")
VAES = ("vae", "vqvae", "movq")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A folder that holds a pipeline, or one denoiser.

    Attributes:
        folder: The folder.
        denoiser: The denoiser's folder.
        scheduler: The scheduler's config.
        pipeline: What ``model_index.json`` holds; empty where there is none.
    """

    folder: Path
    denoiser: Path
    scheduler: Path
    pipeline: Mapping[str, Any]

    @property
    def named(self) -> list[str]:
        """The parts that the pipeline's index says there are; none of a denoiser's own folder."""
        if self.denoiser == self.folder:
            return []
        return [name for name, entry in self.pipeline.items() if _is_part(entry)]

    @property
    def vae(self) -> Path | None:
        """The folder of the VAE, if there is one."""
        found = [self.folder / name for name in VAES if (self.folder / name).is_dir()]
        return found[0] if found else None

    def strides(self, axes: int) -> tuple[int, ...]:
        """How many frames, rows and columns of what is drawn are one of the state's axes.

        1 without a VAE. The first frame of a video is a latent of its own.

        Args:
            axes: Of the state, after the channels.

        Raises:
            ExportError: The VAE's config is missing or no JSON object.
        """
        if self.vae is None:
            return (1,) * axes
        config = read_config(self.vae / "config.json")
        side = config.get("scale_factor_spatial")
        if side is None:
            blocks = config.get("block_out_channels", config.get("encoder_block_out_channels"))
            side = 2 ** (len(blocks) - 1) if isinstance(blocks, list) else PIXELS
        frames = int(config.get("scale_factor_temporal") or 4)
        return (frames, side, side)[-axes:] if axes <= 3 else (1,) * axes


def find_place(folder: str | Path) -> Place:
    """Where everything lies in ``folder``.

    Raises:
        ExportError: There is no folder, or it lacks what its ``model_index.json`` says.
    """
    folder = Path(folder).expanduser()
    if folder.name in ("", ".."):  # whose parent is not what its path says
        folder = folder.resolve()
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise ExportError(f"{folder} {found}; give a diffusers folder")
    pipeline = _pipeline(folder)
    denoiser = _denoiser(folder, pipeline)
    places = [
        folder / "scheduler" / "scheduler_config.json",
        folder / "scheduler_config.json",
        folder.parent / "scheduler" / "scheduler_config.json",
    ]
    found_at = [p for p in places if p.is_file()]
    return Place(
        folder=folder, denoiser=denoiser, scheduler=(found_at or places)[0], pipeline=pipeline
    )


def _pipeline(folder: Path) -> dict[str, Any]:
    """``model_index.json``, also where the folder is one of a pipeline's parts."""
    for root in (folder, folder.parent):
        if (root / "model_index.json").is_file() and (root == folder or folder.name in DENOISERS):
            return read_config(root / "model_index.json")
    return {}


def _denoiser(folder: Path, pipeline: Mapping[str, Any]) -> Path:
    there = [name for name in DENOISERS if (folder / name).is_dir()]
    named = [name for name in (*DENOISERS, *SECOND) if _is_part(pipeline.get(name))]
    if second := [name for name in named if name in SECOND]:
        raise ExportError(
            f"{folder} has two denoisers, {named[0]}/ and {second[0]}/, and a bundle holds one; "
            f"name the folder of one of them, or {FACTORY}"
        )
    if len(there) > 1:
        raise ExportError(
            f"{folder} has unet/ and transformer/; name the folder of the denoiser itself"
        )
    if there:
        return folder / there[0]
    if named and not (folder / "config.json").is_file():
        raise missing_part(folder, named[0])
    return folder


def missing_part(folder: Path, name: str) -> ExportError:
    """The error of a part that a pipeline's index names, and that isn't there."""
    return ExportError(
        f"{folder / name} is missing, which {folder / 'model_index.json'} names; download it, or "
        "save the pipeline again with save_pretrained"
    )


def _is_part(entry: object) -> bool:
    """Whether an entry of ``model_index.json`` is a part that there is: [library, class]."""
    return isinstance(entry, list) and bool(entry) and entry[0] is not None
