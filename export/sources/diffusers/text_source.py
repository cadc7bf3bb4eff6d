"""The text encoders and tokenizers of a pipeline's folder, one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from revstep.engine.errors import ExportError
from revstep.engine.spec.denoiser import Condition
from revstep.engine.spec.encoder import Tokenizer
from revstep.export.sources.diffusers.config import read_config
from revstep.export.sources.diffusers.tokenizer_file import TokenizerFile, read_tokenizer
from revstep.export.sources.diffusers.weights import Weights

if TYPE_CHECKING:
    import torch

WEIGHTS = "model"
REPORTED = ("missing_keys", "mismatched_keys", "error_msgs")
T5 = ("T5EncoderModel", "UMT5EncoderModel")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """How prompts become the ids of one encoder.

    Attributes:
        file: The tokenizer.
        inputs: The encoder's inputs that it gives: the ids and, if asked for, the mask; their null
            values are those of the empty prompt.
        tokenizer: Its description.
    """

    file: TokenizerFile
    inputs: tuple[Condition, ...]
    tokenizer: Tokenizer


@dataclasses.dataclass(frozen=True, slots=True)
class TextSource:
    """A pipeline's folder with ``text_encoder/``, ``tokenizer/``, ``text_encoder_2/``, ...

    Attributes:
        folder: The folder.
        pipeline: What ``model_index.json`` holds.
    """

    folder: Path
    pipeline: Mapping[str, Any]

    def has(self, number: int) -> bool:
        """Whether there is such an encoder."""
        return (self.folder / _part("text_encoder", number)).is_dir()

    def model(self, number: int, allowed: Sequence[str]) -> Any:
        """An encoder, float32, in eval mode.

        Args:
            number: 1 for ``text_encoder/``, 2 for ``text_encoder_2/``, ...
            allowed: The classes of transformers that it may be of.

        Raises:
            ExportError: It is missing, of another class, or without safetensors that fit it.
        """
        part = _part("text_encoder", number)
        folder = self.folder / part
        if not folder.is_dir():
            raise ExportError(
                f"{folder} is missing, which this pipeline's prompts need; copy the whole "
                "pipeline, or save it again with save_pretrained"
            )
        config = read_config(folder / "config.json")
        named = self.pipeline.get(part) or [None, None]
        name = named[-1] or (config.get("architectures") or [None])[0]
        if name not in allowed:
            raise ExportError(
                f"{folder} is of class {name!r}; carried here: {', '.join(allowed)}. Export the "
                "denoiser's own folder: its bundle takes the text's embeddings as conditions"
            )
        if config.get("use_attention_mask"):
            raise ExportError(
                f"{folder / 'config.json'}: use_attention_mask={config['use_attention_mask']!r} "
                "is not carried, only False"
            )
        return load_text_encoder(folder, name)

    def prompts(
        self, number: int, length: int, words: int, *, mask: bool = False, own: bool = True
    ) -> Prompts:
        """The tokenizer of an encoder.

        Args:
            number: As for ``model``.
            length: How many ids.
            words: How many tokens the encoder knows.
            mask: Whether it takes a mask.
            own: Whether there are no more ids than the tokenizer's folder says; pipelines give T5
                a length of theirs.

        Raises:
            ExportError: As ``read_tokenizer``, or its tokens aren't the encoder's.
        """
        folder = self.folder / _part("tokenizer", number)
        file = read_tokenizer(folder)
        count = min(length, file.length) if own and file.length is not None else length
        if max(file.pad, *file.empty) >= words:
            raise ExportError(
                f"{folder} gives ids up to {max(file.pad, *file.empty)}, and its encoder knows "
                f"{words} tokens: they are of different models"
            )
        names = [_part("input_ids", number), _part("attention_mask", number)][: 1 + mask]
        if count <= len(file.empty):
            raise ExportError(
                f"{folder}: a text of {count} tokens has no room for a word beside the "
                f"{len(file.empty)} that frame it; give a longer sequence_length "
                "(--sequence-length)"
            )
        padding = max(0, count - len(file.empty))
        nulls = ([*file.empty, *[file.pad] * padding], [1] * len(file.empty) + [0] * padding)
        limits = ((0, words - 1), (0, 1))
        inputs = tuple(
            Condition(name=name, shape=(count,), dtype="int64", null=null[:count], limits=limit)
            for name, null, limit in zip(names, nulls, limits, strict=False)
        )
        tokenizer = Tokenizer(
            file=f"{_part('tokenizer', number)}.json", ids=names[0],
            mask=names[1] if mask else None, length=count, pad=file.pad,
        )  # fmt: skip
        return Prompts(file=file, inputs=inputs, tokenizer=tokenizer)


def _part(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


def load_text_encoder(folder: Path, name: str) -> torch.nn.Module:
    """The encoder of that class of transformers, float32, in eval mode.

    Raises:
        ExportError: There are no safetensors, or they don't fit the config.
    """
    import torch
    import transformers

    weights = Weights.find(
        folder, WEIGHTS, library="transformers", name=name, saved="model.save_pretrained(folder)"
    )
    options = {} if name not in T5 else {"attn_implementation": "eager"}  # torch can't export sdpa
    load: Any = getattr(transformers, name).from_pretrained
    with weights.loading():
        model, report = load(
            str(folder), variant=weights.variant, use_safetensors=True, dtype=torch.float32,
            local_files_only=True, output_loading_info=True, **options,
        )  # fmt: skip
    weights.check(report, REPORTED)
    found: torch.nn.Module = model.eval()
    return found
