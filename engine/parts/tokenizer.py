"""``PromptTokenizer``: prompts to token ids, in the ``tokenizers`` package."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from revstep.engine.bundle.layout import AGAIN
from revstep.engine.checks import check_sequence, check_type
from revstep.engine.errors import BackendError, BundleError
from revstep.engine.spec.encoder import Tokenizer

if TYPE_CHECKING:
    import tokenizers

SHOWN = 60  # characters of a prompt in a warning

log = logging.getLogger(__name__)


class PromptTokenizer:
    """Prompts to what an encoder takes: ids of one length, and which of them are the prompt's.

    Args:
        path: The tokenizer's file, as the ``tokenizers`` package writes it.
        spec: Length, padding and the names of the encoder's inputs.

    Raises:
        BackendError: The ``tokenizers`` package is not installed.
        BundleError: The file is missing, is no tokenizer, or doesn't fit the spec.
    """

    def __init__(self, path: Path, spec: Tokenizer) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise BackendError(
                f"a prompt needs the tokenizers package, which is not installed; pip install "
                f"'revstep[text]', or give {spec.ids!r} as token ids in inputs="
            ) from error
        if not path.is_file():
            raise BundleError(f"{path}, the tokenizer with its vocabulary, is missing; {AGAIN}")
        self._spec = spec
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # what tokenizers raises for a file that it can't read
            raise BundleError(f"{path} is no file of the tokenizers package: {error}") from error
        padding = self._tokenizer.id_to_token(spec.pad)
        if padding is None:
            raise BundleError(
                f"{path} has no token of id {spec.pad}, which pads prompts; its vocabulary has "
                f"{self._tokenizer.get_vocab_size()} tokens; {AGAIN}"
            )
        if spec.length <= (frame := self._tokenizer.num_special_tokens_to_add(is_pair=False)):
            raise BundleError(
                f"{path} adds {frame} tokens that frame a prompt, and the spec's length of ids is "
                f"{spec.length}, which leaves no room for one; {AGAIN}"
            )
        self._tokenizer.no_padding()
        self._tokenizer.enable_padding(length=spec.length, pad_id=spec.pad, pad_token=padding)
        self._tokenizer.enable_truncation(max_length=spec.length)

    def encode(self, prompts: Sequence[str]) -> dict[str, NDArray[np.int64]]:
        """The prompts' ids and, where the spec names it, their mask.

        A prompt that is longer than the encoder takes is cut, with a warning that says where.

        Args:
            prompts: Any texts; empty ones give the tokens of the empty prompt.

        Returns:
            By name of the encoder's input: int64 (n, length).

        Raises:
            TypeError: Not a sequence of texts.
        """
        allowed = "texts, as ['a red house']"
        if isinstance(prompts, str):
            prompts = [prompts]
        found: list[tokenizers.Encoding] = []
        for prompt in check_sequence(prompts, "prompt", allowed):
            check_type(prompt, "prompt", str, allowed)
            found.append(self._tokenizer.encode(prompt))  # one by one: a batch starts threads
            if found[-1].overflowing:
                self._warn_of_cut(prompt, found[-1])
        values = {self._spec.ids: [encoding.ids for encoding in found]}
        if self._spec.mask is not None:
            values[self._spec.mask] = [encoding.attention_mask for encoding in found]
        shape = (len(found), self._spec.length)
        return {name: np.array(rows, np.int64).reshape(shape) for name, rows in values.items()}

    def _warn_of_cut(self, prompt: str, encoding: tokenizers.Encoding) -> None:
        cut = prompt[_begin_of(encoding.overflowing[0]) :].lstrip()  # T5's begin with their space
        if not cut:
            return
        before = prompt[: len(prompt) - len(cut)]
        word = len(before.split()) + (not before or before[-1:].isspace())
        log.warning(
            "a prompt of more than the %d tokens that the encoder takes was cut at its word %d, "
            "%r: nothing from there on is seen, %r",
            self._spec.length, word, _shortened(prompt.split()[word - 1]), _shortened(cut),
        )  # fmt: skip


def _begin_of(encoding: tokenizers.Encoding) -> int:
    """Where in the prompt the first token begins that isn't special."""
    return next(
        offsets[0]
        for offsets, special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True)
        if not special
    )


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
