"""Prompts become the ids that transformers' own tokenizers give, and long ones are cut aloud."""

import logging
import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

pytest.importorskip("tokenizers")
pytest.importorskip("transformers")

from vocabularies import (
    byte_vocabulary,
    clip_vocabulary,
    t5_tokenizer,
    write_clip_tokenizer,
)

from revstep import Tokenizer
from revstep.engine.errors import BackendError, BundleError
from revstep.engine.parts.tokenizer import PromptTokenizer
from revstep.export.sources.diffusers.tokenizer_file import read_tokenizer

TEXTS = (
    "", " ", "a red fox", "A RED   fox,\tin\nthe snow!", "it's the fox's den, isn't it?",
    "über-schöne Füchse à la carte", "naïve cafe\u0301 vs café", "日本語のきつね 狐", "🦊 fox 👩‍🚀",
    "3.14159 e=mc^2 (4k:1.2) [unreal engine]", "<|endoftext|> after the end", "<|startoftext|>",
    "<pad> </s> <unk>", "ﬁne ligature Ⅻ ½ ㎏", "مرحبا بالعالم", "\u200bzero\u00a0width\u3000space",
    "!!! ... --- ___ @#$%", "don’t “quote” — dash", "a" * 200, "fox " * 100, "I\u0307 İ ß",
)  # fmt: skip


def pair(folder, theirs, length, mask=True):
    """Our tokenizer of the folder, and transformers'."""
    file = read_tokenizer(folder)
    path = folder.parent / "tokenizer.json"
    path.write_bytes(file.content)
    spec = Tokenizer(ids="ids", mask="mask" if mask else None, length=length, pad=file.pad)
    return PromptTokenizer(path, spec), theirs.from_pretrained(folder), length


@pytest.fixture(scope="module", params=["clip", "clip2", "bytes", "t5", "t5 saved again"])
def tokenizers(request, tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp("tokenizers") / "tokenizer"
    if request.param.startswith("t5"):
        t5_tokenizer().save_pretrained(folder)
        if "again" in request.param:
            transformers.T5Tokenizer.from_pretrained(folder).save_pretrained(folder)
        return pair(folder, transformers.T5TokenizerFast, 32)
    pad = "!" if request.param == "clip2" else "<|endoftext|>"
    words = byte_vocabulary() if request.param == "bytes" else clip_vocabulary()
    write_clip_tokenizer(folder, words, pad)
    return pair(folder, transformers.CLIPTokenizer, 77)


def assert_equal(tokenizers, texts):
    ours, theirs, length = tokenizers
    want = theirs(texts, padding="max_length", max_length=length, truncation=True)
    got = ours.encode(texts)
    np.testing.assert_array_equal(got["ids"], want.input_ids)
    np.testing.assert_array_equal(got["mask"], want.attention_mask)


def test_ids_and_mask_are_those_of_transformers(tokenizers):
    assert_equal(tokenizers, list(TEXTS))


@hypothesis.given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
@hypothesis.settings(max_examples=150)
def test_any_text_gives_the_ids_of_transformers(tokenizers, text):
    assert_equal(tokenizers, [text])


def test_words_in_any_order_give_the_ids_of_transformers(tokenizers):
    words = np.array(" ".join(TEXTS[2:14]).split())
    rng = np.random.default_rng(0)
    assert_equal(tokenizers, [" ".join(rng.choice(words, n)) for n in range(1, 60)])


@pytest.fixture
def small(tmp_path):
    folder = write_clip_tokenizer(tmp_path / "tokenizer", length=8)
    file = read_tokenizer(folder)
    (tmp_path / "tokenizer.json").write_bytes(file.content)
    return tmp_path / "tokenizer.json", Tokenizer(ids="ids", length=8, pad=file.pad)


def test_a_long_prompt_is_cut_with_a_warning_that_names_the_word(small, caplog):
    ours = PromptTokenizer(*small)
    with caplog.at_level(logging.WARNING):
        ours.encode(["the red fox at the red"])  # eight ids with the two that frame them
        assert not caplog.records
        ids = ours.encode(["the red fox at the red fox, snowed in"])["ids"]
    np.testing.assert_array_equal(ids, ours.encode(["the red fox at the red"])["ids"])
    (record,) = caplog.records
    said = record.getMessage()
    assert "the 8 tokens" in said
    assert "cut at its word 7, 'fox,'" in said
    assert said.endswith("'fox, snowed in'")


def test_a_cut_inside_of_a_word_names_that_word(small, caplog):
    with caplog.at_level(logging.WARNING):
        PromptTokenizer(*small).encode(["the red zzzzzzzzzz fox"])
    assert "cut at its word 3, 'zzzzzzzzzz'" in caplog.text


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (
            "the cat sat  on the mat",
            "its word 4, 'on': nothing from there on is seen, 'on the mat'",
        ),
        ("a b c d e fog  ", "its word 6, 'fog'"),
        ("the cat sat  ", None),
    ],
)
def test_a_cut_before_a_word_names_that_word_where_tokens_begin_with_their_space(
    tmp_path, caplog, prompt, said
):
    path = tmp_path / "tokenizer.json"
    path.write_text(t5_tokenizer().backend_tokenizer.to_str())
    with caplog.at_level(logging.WARNING):
        PromptTokenizer(path, Tokenizer(ids="ids", length=8, pad=0)).encode([prompt])
    assert said is None or said in caplog.text
    assert bool(said) == bool(caplog.records)


def test_one_text_is_a_batch_of_one_and_none_is_empty(small):
    ours = PromptTokenizer(*small)
    assert ours.encode("the red fox")["ids"].shape == (1, 8)
    assert ours.encode([])["ids"].shape == (0, 8)
    with pytest.raises(TypeError, match="prompt must be texts"):
        ours.encode([3])
    with pytest.raises(TypeError, match="prompt must be texts"):
        ours.encode(None)


def test_a_bundle_without_the_vocabulary_or_with_another_file_is_refused(small):
    path, spec = small
    with pytest.raises(BundleError, match=r"tokenizer_9\.json, the tokenizer .* is missing"):
        PromptTokenizer(path.with_name("tokenizer_9.json"), spec)
    other = path.with_name("other.json")
    other.write_text("{}")
    with pytest.raises(BundleError, match="is no file of the tokenizers package"):
        PromptTokenizer(other, spec)
    with pytest.raises(BundleError, match="has no token of id 9999, which pads"):
        PromptTokenizer(path, Tokenizer(ids="ids", length=8, pad=9999))
    with pytest.raises(BundleError, match="2 tokens that frame"):
        PromptTokenizer(path, Tokenizer(ids="ids", length=2, pad=0))


def test_a_prompt_without_the_tokenizers_package_says_what_to_install(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(BackendError, match=r"revstep\[text\]"):
        PromptTokenizer(*small)
