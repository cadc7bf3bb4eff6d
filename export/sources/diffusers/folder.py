"""Diffusers folders, as ``save_pretrained`` writes them: a denoiser alone, or a pipeline."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.bundle.reader import Bundle
from revstep.engine.checks import check_sequence, check_whole
from revstep.engine.errors import ArgumentError, ExportError
from revstep.engine.spec.denoiser import DenoiserSpec, TimeInput
from revstep.export.progress import Progress
from revstep.export.sources.checkpoint import Checkpoint
from revstep.export.sources.diffusers.adapter import PIXELS, Adapter, Given
from revstep.export.sources.diffusers.class_labels import NullClassError
from revstep.export.sources.diffusers.config import read_config, values_of
from revstep.export.sources.diffusers.parts import check_parts, with_parts
from revstep.export.sources.diffusers.place import Place, find_place
from revstep.export.sources.diffusers.table import adapter_for
from revstep.export.sources.diffusers.weights import load_network
from revstep.export.sources.diffusers_schedule import Sampling
from revstep.export.sources.module import check_arguments, export_module

if TYPE_CHECKING:
    import torch


TEXT = "encoder_hidden_states"

logger = logging.getLogger(__name__)


def export_diffusers(
    folder: str | Path,
    path: str | Path,
    *,
    precisions: Sequence[str] = ("fp32",),
    opset: int = 20,
    null_class: int | None = None,
    size: Sequence[int] | None = None,
    sequence_length: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Exports a diffusers folder: ``load_diffusers_checkpoint``, then ``export_module``.

    Args:
        folder: A pipeline's folder (``unet/`` or ``transformer/``, and ``scheduler/``), or
            ``config.json`` and ``scheduler_config.json``.
        path: The bundle's directory.
        precisions: Of ``fp32``, ``fp16``, ``bf16``.
        opset: ONNX opset.
        null_class: As ``load_diffusers_checkpoint``.
        size: As ``load_diffusers_checkpoint``.
        sequence_length: As ``load_diffusers_checkpoint``.
        overwrite: Replace an existing bundle.
        progress: Called with (description, done, total).

    Raises:
        ValueError: As ``load_diffusers_checkpoint`` and ``export_module``.
        ExportError: As ``load_diffusers_checkpoint`` and ``export_module``.
    """
    check_arguments(path, precisions, opset, overwrite)
    if progress is not None:
        progress("loading the diffusers folder", 0, 1)
    place = find_place(folder)
    check_parts(place)
    found, sampling = _denoiser(place, null_class, size, sequence_length)
    found = _whole(found, place, sequence_length)
    source = {"kind": "diffusers", "name": Path(folder).resolve().name}
    if sampling.sampler is not None:
        source["sampler"] = repr(sampling.sampler)
    return export_module(
        found.module, found.spec, path, precisions=precisions, opset=opset,
        decoder=found.decoder, encoders=found.encoders, picture_encoder=found.picture_encoder,
        files=found.files, overwrite=overwrite, progress=progress, source=source,
    )  # fmt: skip


def load_diffusers_checkpoint(
    folder: str | Path,
    *,
    null_class: int | None = None,
    size: Sequence[int] | None = None,
    sequence_length: int | None = None,
) -> Checkpoint:
    """All that a bundle is made of, from a diffusers folder.

    fp16 weights (``*.fp16.safetensors``) are found where there are no full ones. Pickled weights
    are refused.

    Args:
        folder: As ``export_diffusers``.
        null_class: The class label that means "no condition", for classifier-free guidance, where
            the network's class doesn't say.
        size: Rows and columns (frames, rows and columns of a video; the length of a sequence):
            pixels of what is drawn where the folder has a VAE, else of the state. None: the
            config's.
        sequence_length: Length of the text's embeddings; None: the pipeline's own.

    Raises:
        ValueError: ``null_class`` out of range, or for a model without classes; a size that the
            state can't have; ``sequence_length`` for a model without text,
            or above what its text encoder takes.
        ExportError: Files are missing, or the folder says something that a spec can't carry.
    """
    place = find_place(folder)
    check_parts(place)
    found, _ = _denoiser(place, null_class, size, sequence_length)
    return _whole(found, place, sequence_length)


def load_diffusers(
    folder: str | Path,
    *,
    null_class: int | None = None,
    size: Sequence[int] | None = None,
    sequence_length: int | None = None,
) -> tuple[torch.nn.Module, DenoiserSpec]:
    """The (module, spec) of a diffusers folder's denoiser alone.

    Raises:
        ValueError: As ``load_diffusers_checkpoint``.
        ExportError: As ``load_diffusers_checkpoint``.
    """
    found, _ = _denoiser(find_place(folder), null_class, size, sequence_length)
    return found.module, found.spec


def _whole(denoiser: Checkpoint, place: Place, text: int | None) -> Checkpoint:
    """The denoiser with the folder's parts, whose text encoders take as many tokens as asked."""
    found = with_parts(denoiser, place)
    taken = next((c.shape[0] for c in found.spec.conditions if c.name == TEXT), text)
    if text is not None and taken != text:
        raise ArgumentError(
            f"sequence_length={text} was given, but the text encoder of {place.folder} takes "
            f"{taken} tokens at most: leave it out, or give fewer",
            "sequence_length",
        )
    return found


def _denoiser(
    place: Place, null_class: int | None, size: Sequence[int] | None, text: int | None
) -> tuple[Checkpoint, Sampling]:
    """The denoiser, with no parts yet, and what the scheduler's config says."""
    adapter, given, sampling = _read(place, null_class, size, text)
    spec = _spec(adapter, given, sampling)
    if text is not None and TEXT not in {c.name for c in spec.conditions}:
        raise ArgumentError(
            f"sequence_length={text} was given, but {adapter.name} of this folder takes no text",
            "sequence_length",
        )
    network = load_network(place.denoiser, adapter.name)
    module = adapter.module(network, given, spec.conditions)
    if sampling.time_scale != 1.0:
        from revstep.export.sources.diffusers.modules import ScaledTime

        module = ScaledTime(module, sampling.time_scale)
    return Checkpoint(module=module.eval(), spec=spec), sampling


def _read(
    place: Place, null_class: int | None, size: Sequence[int] | None, text: int | None
) -> tuple[Adapter, Given, Sampling]:
    where = place.denoiser / "config.json"
    config = read_config(where)
    adapter, legacy = adapter_for(where, config)
    if text is not None:
        check_whole(text, "sequence_length", 1)
    if null_class is not None:
        check_whole(null_class, "null_class")
    given = Given(
        where=where,
        scheduler=place.scheduler,
        values=values_of(where, config, adapter.name, legacy),
        pipeline=place.pipeline,
        size=None if size is None else _state_size(adapter, place, size),
        text=text,
        null_class=null_class,
        pixels=place.strides(2)[-1] if place.vae is not None else PIXELS,
    )
    adapter.check(given)
    return adapter, given, adapter.sampling(read_config(place.scheduler), given)


def _state_size(adapter: Adapter, place: Place, size: Sequence[int]) -> tuple[int, ...]:
    """The state's axes of what is drawn in that size."""
    names = ("frames", "rows", "columns")[-adapter.axes :] if adapter.axes > 1 else ("length",)
    found = check_sequence(size, "size", f"({', '.join(names)})")
    for value in found:
        check_whole(value, "size", 1)
    text = "x".join(map(str, found))
    if len(found) != adapter.axes:
        raise ArgumentError(
            f"size={text} has {len(found)} numbers; {adapter.name} has {' x '.join(names)}", "size"
        )
    strides = place.strides(adapter.axes)
    first = (1, 0, 0) if adapter.axes == 3 and place.vae is not None else (0,) * adapter.axes
    if any((n - f) % s for n, f, s in zip(found, first, strides, strict=True)):
        needed = ", ".join(
            f"{name} {f} + a multiple of {s}" if f else f"{name} a multiple of {s}"
            for name, f, s in zip(names, first, strides, strict=True)
        )
        raise ArgumentError(f"size={text} does not fit {place.vae}, which needs {needed}", "size")
    return tuple(f + (n - f) // s for n, f, s in zip(found, first, strides, strict=True))


def _spec(adapter: Adapter, given: Given, sampling: Sampling) -> DenoiserSpec:
    channels, out = adapter.channels(given)
    if out not in (channels, 2 * channels):
        raise ExportError(
            f"{given.where}: {channels} channels in and {out} out; expected as many out, or twice "
            "as many (learned variance)"
        )
    if sampling.learned_variance and out != 2 * channels:
        raise ExportError(
            f"the scheduler says a learned variance, which needs {2 * channels} channels out; "
            f"{given.where} says {out}"
        )
    spec: dict[str, Any] = dict(sampling.spec_fields)
    if spec["value_range"] is None and adapter.pixel_data and channels in (1, 3):
        spec["value_range"] = (-1.0, 1.0)
    try:
        conditions = adapter.conditions(given)
        if given.null_class is not None and all(c.classes is None for c in conditions):
            raise NullClassError(
                f"null_class={given.null_class} was given, but this model has no classes"
            )
        return DenoiserSpec(
            shape=(channels, *adapter.size(given)),
            time=TimeInput(kind=sampling.time_kind, fractions=adapter.fractions(given)),
            conditions=conditions,
            learned_variance=out == 2 * channels,
            sampler=sampling.choice,
            **spec,
        )
    except (TypeError, ValueError) as error:
        if isinstance(error, NullClassError):
            raise ValueError(str(error)) from None
        raise ExportError(f"{given.where.parent} describes no valid denoiser: {error}") from error
