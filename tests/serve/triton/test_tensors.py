"""The model's inputs and outputs, against the arguments that they stand for, and the page."""

import inspect
import re
from pathlib import Path

import encoders
import numpy as np
import pytest

import revstep
from revstep import SamplerChoice
from revstep.engine.service.service import Submission
from revstep.serve.triton.settings import Settings
from revstep.serve.triton.tensors import arguments, inputs, outputs

PAGE = (Path(__file__).parents[3] / "docs" / "triton.md").read_text("utf-8")
OBJECTS = {"guidance_weight"}  # no tensor
ELSEWHERE = {
    "decode",  # by the outputs that are asked for
    "previews",  # Triton's replies are one
    "height",  # a model has one size
    "width",
}
ENCODED = {"inputs", "null_inputs", "prompt", "negative_prompt"}  # where there are encoders
OWN = {"sampler_options"}


def arguments_of(spec):
    return {tensor.name.partition(".")[0] for tensor in inputs(spec)}


def test_a_model_with_encoders_takes_what_they_take(reading_bundle):
    assert arguments_of(revstep.Bundle.open(reading_bundle).spec) >= ENCODED


def test_every_argument_of_a_request_is_an_input(policy_bundle):
    spec = revstep.Bundle.open(policy_bundle).spec
    wanted = {"n", *Submission.__annotations__} - OBJECTS - ELSEWHERE
    assert arguments_of(spec) - OWN == wanted - ENCODED
    assert wanted - {"priority", "deadline_s"} <= set(
        inspect.signature(revstep.Engine.sample).parameters
    )


def test_the_page_has_every_input_with_its_type(policy_bundle, image_bundle, reading_bundle):
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([A-Z0-9]+|the condition's) \|", PAGE, re.MULTILINE))
    for bundle in (policy_bundle, image_bundle, reading_bundle):
        spec = revstep.Bundle.open(bundle).spec
        found = {}
        for tensor in inputs(spec):
            mapping, dot, _ = tensor.name.partition(".")
            found[f"{mapping}.<name>" if dot else mapping] = (
                "the condition's" if dot else tensor.type
            )
        without = () if spec.encoders else ENCODED
        assert found == {k: v for k, v in rows.items() if k.partition(".")[0] not in without}
        for output in outputs(spec):
            assert f"`{output.name}`" in PAGE


def test_the_page_has_every_setting():
    for name in Settings.__dataclass_fields__:
        assert f"`revstep.{name}`" in PAGE


def test_prompts_and_inputs_are_tensors_of_their_own(tmp_path):
    spec = encoders.reading(tmp_path).spec
    found = {tensor.name: tensor for tensor in inputs(spec)}
    assert found["prompt"].type == "STRING"
    assert found["inputs.tokens"].dims == (-1, 6)
    assert found["conditions.sequence"].optional  # the encoder gives it
    given = {"prompt": np.array([b"a", b"b"], object), "inputs.tokens": np.ones((2, 6), np.int64)}
    read = arguments(given, 4, None)
    assert read["prompt"] == ["a", "b"]
    assert read["inputs"]["tokens"].shape == (2, 6)
    assert arguments({"prompt": np.array([b"a"], object)}, 4, None) == {"prompt": "a"}


def test_options_without_a_sampler_change_the_specs_own():
    given = {"sampler_options": np.array([b'{"order": 3}'], object)}
    own = SamplerChoice("unipc", {"b": "bh1"}, "diffusers")
    found = arguments(given, 4, None, own)["sampler"]
    assert found == SamplerChoice("unipc", {"b": "bh1", "order": 3}, "diffusers")
    named = {**given, "sampler": np.array([b"dpmpp_3m"], object)}
    with pytest.raises(ValueError, match="no option"):
        arguments(named, 4, None, own)
