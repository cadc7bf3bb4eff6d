"""The parts of a pipeline beside its denoiser: text encoders, tokenizers, the VAE."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from revstep.engine.errors import ExportError
from revstep.export.sources.checkpoint import Checkpoint
from revstep.export.sources.diffusers.config import read_config
from revstep.export.sources.diffusers.place import DENOISERS, VAES, Place, missing_part
from revstep.export.sources.diffusers.table import adapter_for
from revstep.export.sources.diffusers.text import RULES, TextPart, text_parts
from revstep.export.sources.diffusers.text_source import TextSource
from revstep.export.sources.diffusers.vae import CLASS, picture_parts

MISSING = (
    "{folder} has a {part}/, which transformers reads, and that is not installed; pip install "
    "'revstep[pipelines]', or export the denoiser's folder alone"
)
TEXTS = ("text_encoder", "text_encoder_2", "text_encoder_3")
LEFT = ("image_encoder", "safety_checker", "watermark")
TAKEN = (*DENOISERS, *TEXTS, *VAES, "scheduler")
WITHOUT_WEIGHTS = ("tokenizer", "feature_extractor", "processor")  # in the names of such parts
PICTURE_AXES = 3

logger = logging.getLogger(__name__)


def check_parts(place: Place) -> None:
    """Refuses a pipeline that lacks a part that its index names.

    Raises:
        ExportError: It lacks a text encoder or the VAE.
    """
    for name in place.named:
        if name in (*TEXTS, *VAES) and not (place.folder / name).is_dir():
            raise ExportError(
                *missing_part(place.folder, name).args,
                f". Where the bundle is to be without it, put [null, null] for {name} there",
            )


def with_parts(checkpoint: Checkpoint, place: Place) -> Checkpoint:
    """The checkpoint with what else the folder holds; what is not carried is named in a warning.

    Args:
        checkpoint: The denoiser.
        place: Its pipeline's folder.

    Raises:
        ExportError: A part is damaged, incomplete, or of another model than the denoiser.
    """
    left = [name for name in LEFT if (place.folder / name).is_dir()]
    left += [name for name in place.named if _is_left(name) and name not in left]
    texts = [name for name in TEXTS if (place.folder / name).is_dir()]
    where = place.denoiser / "config.json"
    name = adapter_for(where, read_config(where))[0].name
    if texts and name in RULES:
        if find_spec("transformers") is None:
            raise ExportError(MISSING.format(folder=place.folder, part=texts[0]))
        source = TextSource(place.folder, place.pipeline)
        checkpoint = _with_text(checkpoint, text_parts(name, source, checkpoint.spec))
    else:
        left += texts
    vae = place.vae
    if vae is not None:
        config = read_config(vae / "config.json")
        if config.get("_class_name") == CLASS and len(checkpoint.spec.shape) == PICTURE_AXES:
            checkpoint = _with_pictures(checkpoint, vae, config)
        else:
            left.append(vae.name)
    if left:
        logger.warning(
            "%s has %s, which the bundle does not have%s",
            place.folder,
            ", ".join(f"{name}/" for name in left),
            _instead(left),
        )
    return checkpoint


def _is_left(name: str) -> bool:
    """Whether a part has weights that no bundle carries, such as a ControlNet."""
    return name not in TAKEN and not any(word in name for word in WITHOUT_WEIGHTS)


def _instead(left: Sequence[str]) -> str:
    said = []
    if any(name in TEXTS for name in left):
        said.append("it takes the text's embeddings as conditions")
    if any(name in VAES for name in left):
        said.append("its samples are latents")
    if "safety_checker" in left:
        said.append("its pictures are not checked")
    return f": {', and '.join(said)}" if said else ""


def _with_text(checkpoint: Checkpoint, parts: Sequence[TextPart]) -> Checkpoint:
    files = {p.tokenizer.file: p.file.content for part in parts for p in part.prompts}
    encoders = tuple(part.encoder for part in parts)
    modules = {part.encoder.name: part.module for part in parts}
    fitted = {c.name: c for part in parts for c in part.conditions}
    conditions = tuple(fitted.get(c.name, c) for c in checkpoint.spec.conditions)
    spec = dataclasses.replace(checkpoint.spec, conditions=conditions, encoders=encoders)
    return dataclasses.replace(
        checkpoint, spec=spec, encoders=modules, files=_written(files, parts[0].module)
    )


def _written(files: dict[str, bytes], owner: Any) -> dict[str, Path]:
    """The files in a folder of their own, which goes when ``owner`` does."""
    folder = Path(tempfile.mkdtemp(prefix="revstep-tokenizers-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def _with_pictures(checkpoint: Checkpoint, vae: Path, config: dict[str, Any]) -> Checkpoint:
    found = picture_parts(vae, config, checkpoint.spec)
    spec = dataclasses.replace(
        checkpoint.spec, decoder=found.decoder_spec, picture_encoder=found.encoder_spec
    )
    return dataclasses.replace(
        checkpoint, spec=spec, decoder=found.decoder, picture_encoder=found.encoder
    )
