"""The model's inputs and outputs, against the arguments that they stand for, and the page."""

import inspect
import re
from pathlib import Path

import revstep
from revstep.engine.service.service import Submission
from revstep.serve.triton.settings import Settings
from revstep.serve.triton.tensors import inputs, outputs

PAGE = (Path(__file__).parents[3] / "docs" / "triton.md").read_text("utf-8")
OBJECTS = {"guidance_weight"}  # no tensor
ELSEWHERE = {
    "decode",  # by the outputs that are asked for
    "previews",  # Triton's replies are one
}
OWN = {"sampler_options"}


def arguments_of(spec):
    return {tensor.name.partition(".")[0] for tensor in inputs(spec)}


def test_every_argument_of_a_request_is_an_input(policy_bundle):
    spec = revstep.Bundle.open(policy_bundle).spec
    wanted = {"n", *Submission.__annotations__} - OBJECTS - ELSEWHERE
    assert arguments_of(spec) - OWN == wanted
    assert wanted - {"priority", "deadline_s"} <= set(
        inspect.signature(revstep.Engine.sample).parameters
    )


def test_the_page_has_every_input_with_its_type(policy_bundle, image_bundle):
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([A-Z0-9]+|the condition's) \|", PAGE, re.MULTILINE))
    for bundle in (policy_bundle, image_bundle):
        spec = revstep.Bundle.open(bundle).spec
        found = {}
        for tensor in inputs(spec):
            mapping, dot, _ = tensor.name.partition(".")
            found[f"{mapping}.<name>" if dot else mapping] = (
                "the condition's" if dot else tensor.type
            )
        assert found == rows
        for output in outputs(spec):
            assert f"`{output.name}`" in PAGE


def test_the_page_has_every_setting():
    for name in Settings.__dataclass_fields__:
        assert f"`revstep.{name}`" in PAGE
