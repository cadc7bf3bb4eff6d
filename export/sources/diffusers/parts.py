"""The parts of a pipeline beside its denoiser."""

from __future__ import annotations

import logging

from revstep.export.sources.checkpoint import Checkpoint
from revstep.export.sources.diffusers.place import VAES, Place

TEXTS = ("text_encoder", "text_encoder_2", "text_encoder_3", "image_encoder")

logger = logging.getLogger(__name__)


def with_parts(checkpoint: Checkpoint, place: Place) -> Checkpoint:
    """The checkpoint with what else the folder holds; what is not carried is named.

    Args:
        checkpoint: The denoiser.
        place: Its pipeline's folder.
    """
    if left := [name for name in (*TEXTS, *VAES) if (place.folder / name).is_dir()]:
        logger.warning(
            "%s has %s, which the bundle does not have: it takes embeddings as conditions, and "
            "gives latents",
            place.folder,
            ", ".join(f"{name}/" for name in left),
        )
    return checkpoint
