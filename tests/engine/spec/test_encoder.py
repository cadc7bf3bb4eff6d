"""The specs of encoders: what they hold, and that JSON keeps it."""

import dataclasses
import json

import pytest

from revstep import Condition, Decoder, DenoiserSpec, Encoder, PictureEncoder, Tokenizer
from revstep.schedules import VPSchedule

TOKENS = Condition(name="tokens", shape=(8,), dtype="int64", null=[49407] * 8, limits=(0, 49407))
TEXT = Encoder(
    name="text",
    inputs=(TOKENS,),
    conditions=("context", "pooled"),
    tokenizers=(Tokenizer(ids="tokens", length=8, pad=49407),),
)
CONTEXT = (Condition(name="context", shape=(8, 4)), Condition(name="pooled", shape=(4,)))


def spec(**fields):
    own = {"conditions": CONTEXT, "encoders": (TEXT,)}
    return DenoiserSpec(
        shape=(4, 8, 8), schedule=VPSchedule(), prediction="epsilon", **(own | fields)
    )


def test_json_keeps_encoders_and_tiles():
    decoder = Decoder(shape=(3, 64, 64), tile=(4, 4), overlap=0.5)
    pictures = PictureEncoder(shape=(3, 64, 64))
    given = spec(decoder=decoder, picture_encoder=pictures)
    assert DenoiserSpec.from_dict(json.loads(json.dumps(given.to_dict()))) == given


def test_without_them_json_is_what_earlier_versions_read():
    values = spec(encoders=(), decoder=Decoder(shape=(3, 64, 64))).to_dict()
    assert not {"encoders", "picture_encoder"} & set(values)
    assert not {"tile", "overlap"} & set(values["decoder"])


def test_guidance_is_possible_where_the_inputs_have_null_values():
    assert spec().guidable
    tokens = dataclasses.replace(TOKENS, null=None)
    assert not spec(encoders=(dataclasses.replace(TEXT, inputs=(tokens,)),)).guidable


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"conditions": CONTEXT[:1]}, "encoder 'text' gives.*'pooled'.*allowed: context"),
        ({"encoders": (TEXT, TEXT)}, "encoders' names must differ"),
        (
            {"encoders": (TEXT, dataclasses.replace(TEXT, name="other"))},
            "encoders' inputs must differ",
        ),
        ({"picture_encoder": PictureEncoder(shape=(3, 8, 8))}, "needs a decoder"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(fields, said):
    with pytest.raises(ValueError, match=said):
        spec(**fields)


@pytest.mark.parametrize(
    ("tokenizers", "said"),
    [
        ((Tokenizer(ids="token", length=8, pad=0),), "did you mean 'tokens'"),
        ((Tokenizer(ids="tokens", length=7, pad=0),), r"it is int64 \(7,\); got int64 \(8,\)"),
        ((Tokenizer(ids="tokens", length=8, pad=0),) * 2, "two tokenizers give one input"),
    ],
)
def test_tokenizers_that_do_not_fit_are_refused(tokenizers, said):
    with pytest.raises(ValueError, match=said):
        dataclasses.replace(TEXT, tokenizers=tokenizers)


def test_a_tokenizers_file_is_inside_the_bundle():
    with pytest.raises(ValueError, match=r"named tokenizer\.json"):
        Tokenizer(file="../tokenizer.json", ids="tokens", length=8, pad=0)
