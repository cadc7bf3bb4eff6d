"""A pipeline's tokenizer folder as a file of the ``tokenizers`` package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from revstep.engine.errors import ExportError
from revstep.engine.nearest import unknown

CLASSES = ("CLIPTokenizer", "CLIPTokenizerFast", "T5Tokenizer", "T5TokenizerFast")
CONFIG = "tokenizer_config.json"
WHOLE = "tokenizer.json"
SAVE = "save it whole, with transformers' tokenizer.save_pretrained(folder)"


class TokenizerFile(NamedTuple):
    """What a tokenizer's folder holds.

    Attributes:
        content: Its vocabulary and rules, as ``tokenizers.Tokenizer`` writes them.
        pad: The id that pads.
        length: The most ids that it gives, special ones counted; None: it names no limit.
        empty: The ids of the empty prompt, not padded.
    """

    content: bytes
    pad: int
    length: int | None
    empty: tuple[int, ...]


def read_tokenizer(folder: Path) -> TokenizerFile:
    """The tokenizer in ``folder``, read by transformers, whose tokenizers run in ``tokenizers``.

    Args:
        folder: ``tokenizer/`` of a pipeline: ``tokenizer.json``, or ``vocab.json`` and
            ``merges.txt`` (CLIP), or ``spiece.model`` (T5).

    Raises:
        ExportError: The folder or its vocabulary is missing, or its class is none of ``CLASSES``.
    """
    import transformers

    name = _class_name(folder)
    kind: Any = getattr(transformers, name.removesuffix("Fast") + "Fast", None) or getattr(
        transformers, name
    )
    _check_vocabulary(folder, kind.vocab_files_names)
    try:
        made = kind.from_pretrained(str(folder), local_files_only=True)
        content = made.backend_tokenizer.to_str().encode("utf-8")
        empty = tuple(made("").input_ids)
    except Exception as error:  # transformers raises many kinds for a damaged file
        raise ExportError(
            f"{folder} can't be read as a {name}: {type(error).__name__}: {error}; {SAVE}"
        ) from error
    if made.pad_token_id is None:
        raise ExportError(f"{folder / CONFIG} names no pad_token, so prompts can't be padded")
    length = made.model_max_length
    limit = length if isinstance(length, int) and length < 1 << 20 else None  # 1e30 is no limit
    return TokenizerFile(content, int(made.pad_token_id), limit, empty)


def lowered(content: bytes) -> bytes:
    """The tokenizer with prompts stripped and in small letters first, as PixArt's pipelines do."""
    values = json.loads(content)
    first: list[dict[str, Any]] = [
        {"type": "Lowercase"}, {"type": "Strip", "strip_left": True, "strip_right": True},
    ]  # fmt: skip
    own = values["normalizer"]
    values["normalizer"] = {"type": "Sequence", "normalizers": [*first, *([own] if own else [])]}
    return json.dumps(values).encode("utf-8")


def _class_name(folder: Path) -> str:
    if not folder.is_dir():
        raise ExportError(
            f"{folder} is missing, so no prompt can be read; copy the whole pipeline, or {SAVE}"
        )
    path = folder / CONFIG
    try:
        name = json.loads(path.read_text("utf-8")).get("tokenizer_class")
    except FileNotFoundError:
        raise ExportError(f"{path} is missing; {SAVE}") from None
    except (OSError, ValueError, AttributeError) as error:
        raise ExportError(f"{path} can't be read as a JSON object: {error}") from error
    if name not in CLASSES:
        raise ExportError(f"{path}: {unknown('tokenizer_class', name, CLASSES)}")
    return str(name)


def _check_vocabulary(folder: Path, names: dict[str, str]) -> None:
    """Refuses a folder without a vocabulary: transformers makes one of its own, of few tokens."""
    parts = [name for name in names.values() if name != WHOLE]
    if (folder / WHOLE).is_file() or all((folder / name).is_file() for name in parts):
        return
    raise ExportError(
        f"{folder} has no vocabulary: neither {WHOLE} nor {' and '.join(parts)}; copy the missing "
        f"file from where the pipeline comes from, or {SAVE}"
    )
