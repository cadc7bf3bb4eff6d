"""The text encoders of pipelines, by the class of the denoiser that they feed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition, DenoiserSpec
from revstep.engine.spec.encoder import Encoder
from revstep.export.sources.diffusers.text_source import Prompts, TextSource
from revstep.export.sources.diffusers.tokenizer_file import lowered

if TYPE_CHECKING:
    import torch

CLIP, PROJECTED = "CLIPTextModel", "CLIPTextModelWithProjection"
TEXT, POOLED = "encoder_hidden_states", "pooled_projections"


@dataclasses.dataclass(frozen=True, slots=True)
class TextPart:
    """An encoder of prompts.

    Attributes:
        encoder: Its description.
        module: Takes the encoder's inputs.
        prompts: Its tokenizers.
        conditions: The denoiser's conditions, of the shapes that it gives.
    """

    encoder: Encoder
    module: torch.nn.Module
    prompts: Sequence[Prompts]
    conditions: tuple[Condition, ...]


def text_parts(name: str, source: TextSource, spec: DenoiserSpec) -> list[TextPart]:
    """The encoders that make the conditions of a denoiser of class ``name``.

    Raises:
        ExportError: The class has no rule here, or the folder lacks a part.
    """
    if name not in RULES:
        raise ExportError(
            f"{source.folder} has text encoders, and how they feed a {name} is not known here "
            f"(known: {', '.join(RULES)}). Export the denoiser's own folder: its bundle takes the "
            "text's embeddings as conditions"
        )
    return RULES[name](source, spec)


def _length(spec: DenoiserSpec) -> int:
    """Ids of the text that the spec has room for."""
    return next(c.shape[0] for c in spec.conditions if c.name == TEXT)


def _part(
    name: str,
    prompts: Sequence[Prompts],
    conditions: tuple[str, ...],
    module: torch.nn.Module,
    spec: DenoiserSpec,
) -> TextPart:
    found = _conditions(prompts, conditions, module.eval(), spec)
    encoder = Encoder(
        name=name,
        inputs=tuple(c for p in prompts for c in p.inputs),
        conditions=conditions,
        tokenizers=tuple(p.tokenizer for p in prompts),
    )
    return TextPart(encoder, module, prompts, found)


def _conditions(
    prompts: Sequence[Prompts], names: Sequence[str], module: torch.nn.Module, spec: DenoiserSpec
) -> tuple[Condition, ...]:
    """The conditions as the encoder gives them: a CLIP of fewer tokens makes its text shorter.

    Raises:
        ExportError: The encoder is of another model: another width, say.
    """
    import torch

    nulls = [torch.tensor(c.filler[None]) for p in prompts for c in p.inputs]
    with torch.no_grad():
        given = module(*nulls)
    found = []
    by_name = {c.name: c for c in spec.conditions}
    for name, value in zip(names, (given,) if torch.is_tensor(given) else given, strict=True):
        shape, wanted = tuple(value.shape[1:]), by_name[name].shape
        if shape[-1] != wanted[-1]:
            raise ExportError(
                f"the text encoders give {name!r} of width {shape[-1]}, and the denoiser takes "
                f"{wanted[-1]}: they are of different models"
            )
        found.append(dataclasses.replace(by_name[name], shape=shape))
    return tuple(found)


def _unet(source: TextSource, spec: DenoiserSpec) -> list[TextPart]:
    """Stable Diffusion's CLIP, or SDXL's two where the denoiser takes a pooled text too.

    The config of Stable Diffusion 2 leaves CLIP's last layer out, so its last state is CLIP's
    penultimate one. SDXL's refiner has ``text_encoder_2`` alone.
    """
    from revstep.export.sources.diffusers.text_modules import LastState, PenultimateStates

    if "text_embeds" not in {c.name for c in spec.conditions}:
        prompts, models = _clips(source, (1,), (CLIP,), _length(spec))
        return [_part("text", prompts, (TEXT,), LastState(models[0]), spec)]
    numbers = (1, 2) if source.has(1) else (2,)
    prompts, models = _clips(source, numbers, (CLIP, PROJECTED), _length(spec))
    return [_part("text", prompts, (TEXT, "text_embeds"), PenultimateStates(models), spec)]


def _sd3(source: TextSource, spec: DenoiserSpec) -> list[TextPart]:
    """Two CLIPs, and T5 where the folder has it."""
    from revstep.export.sources.diffusers.text_modules import ThreeEncoders

    prompts, models = _clips(source, (1, 2), (PROJECTED,), None)
    clip = prompts[0].tokenizer.length
    rest = _length(spec) - clip
    if rest < 2:
        raise ExportError(
            f"{source.folder}: a text of {_length(spec)} tokens has no room for T5's beside the "
            f"{clip} of CLIP; give a sequence_length (--sequence-length) of more than {clip + 1}"
        )
    t5 = None
    if source.has(3):
        t5 = source.model(3, ("T5EncoderModel",))
        prompts.append(source.prompts(3, rest, t5.config.vocab_size, own=False))
    width = next(c.shape[1] for c in spec.conditions if c.name == TEXT)
    module = ThreeEncoders(models, t5, rest, width)
    return [_part("text", prompts, (TEXT, POOLED), module, spec)]


def _flux(source: TextSource, spec: DenoiserSpec) -> list[TextPart]:
    """CLIP's pooled output, and T5's states."""
    from revstep.export.sources.diffusers.text_modules import LastState, Pooled

    prompts, models = _clips(source, (1,), (CLIP,), None)
    t5 = source.model(2, ("T5EncoderModel",))
    long = source.prompts(2, _length(spec), t5.config.vocab_size, own=False)
    return [
        _part("text", prompts, (POOLED,), Pooled(models[0]), spec),
        _part("text_2", [long], (TEXT,), LastState(t5), spec),
    ]


def _pixart(source: TextSource, spec: DenoiserSpec) -> list[TextPart]:
    """T5, and which of its states are the prompt's."""
    from revstep.export.sources.diffusers.text_modules import MaskedState

    t5 = source.model(1, ("T5EncoderModel",))
    found = source.prompts(1, _length(spec), t5.config.vocab_size, mask=True, own=False)
    content = lowered(found.file.content)
    prompts = [dataclasses.replace(found, file=found.file._replace(content=content))]
    return [_part("text", prompts, (TEXT, "encoder_attention_mask"), MaskedState(t5), spec)]


def _clips(
    source: TextSource, numbers: Sequence[int], classes: tuple[str, ...], length: int | None
) -> tuple[list[Prompts], list[torch.nn.Module]]:
    """The tokenizers and encoders of those numbers, all of the first one's length."""
    models, prompts = [], []
    for number in numbers:
        allowed = classes if number == 1 or len(classes) == 1 else (PROJECTED,)
        models.append(source.model(number, allowed))
        config = models[-1].config
        most = config.max_position_embeddings
        most = most if length is None else min(length, most)
        prompts.append(source.prompts(number, most, config.vocab_size))
        length = prompts[0].tokenizer.length
    return prompts, models


RULES: dict[str, Callable[[TextSource, DenoiserSpec], list[TextPart]]] = {
    "UNet2DConditionModel": _unet,
    "PixArtTransformer2DModel": _pixart,
    "SD3Transformer2DModel": _sd3,
    "FluxTransformer2DModel": _flux,
}
