"""Tokenizers for tests: CLIP's own vocabulary, as open_clip_torch ships it, and a small T5's."""

import functools
import gzip
import importlib.util
import json
from pathlib import Path

import pytest

SPECIAL = ["<|startoftext|>", "<|endoftext|>"]
CORPUS = """a red fox in the snow, oil on canvas; two cats and three dogs by the sea at night
    photograph of an astronaut riding a horse on mars, highly detailed, 4k
    blurry, low quality, watermark, text, the quick brown fox jumps over the lazy dog"""


def _letters():
    """The printable character of each byte, in the order of CLIP's vocabulary."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in own]
    return [chr(b) for b in own] + [chr(256 + i) for i in range(len(others))]


@functools.cache
def clip_vocabulary():
    """(vocabulary, merges) of OpenAI's CLIP; skips where open_clip_torch is not installed."""
    found = importlib.util.find_spec("open_clip")  # not imported: it needs torchvision
    if found is None:
        pytest.skip("CLIP's vocabulary: pip install --no-deps open_clip_torch")
    path = Path(found.submodule_search_locations[0]) / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    return _words(merges), merges


@functools.cache
def byte_vocabulary():
    """(vocabulary, merges) of a tokenizer like CLIP's that knows letters and a few syllables."""
    merges = ["a n", "i n", "t h", "th e</w>", "a t</w>", "f o", "fo x</w>", "r e", "re d</w>"]
    return _words(merges), merges


def _words(merges):
    letters = _letters()
    words = [*letters, *(f"{c}</w>" for c in letters), *(m.replace(" ", "") for m in merges)]
    return {word: i for i, word in enumerate([*words, *SPECIAL])}


def write_clip_tokenizer(folder, words=None, pad=SPECIAL[1], length=77):
    """A folder as ``save_pretrained`` of transformers 4 writes it: vocab.json and merges.txt."""
    vocabulary, merges = words or byte_vocabulary()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    text = "\n".join(["#version: 0.2", *merges, ""])
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    names = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "unk_token": SPECIAL[1]}
    values = {**names, "pad_token": pad, "model_max_length": length,
              "tokenizer_class": "CLIPTokenizer"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(values), encoding="utf-8")
    return folder


@functools.cache
def t5_pieces():
    """(piece, score) of a small Unigram vocabulary, trained on a few lines, T5's first three."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    model = Tokenizer(models.Unigram())
    model.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    model.train_from_iterator(CORPUS.splitlines(), trainer)
    pieces = json.loads(model.to_str())["model"]["vocab"]
    return [(piece, score) for piece, score in pieces]


def t5_tokenizer(length=32):
    """transformers' tokenizer of the small vocabulary."""
    import transformers

    return transformers.T5TokenizerFast(vocab=t5_pieces(), model_max_length=length, extra_ids=0)
