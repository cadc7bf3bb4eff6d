"""The sampler that a spec names: plain data, equal by its values, kept through JSON."""

import copy
import json
import pickle

import pytest

from revstep import DenoiserSpec, SamplerChoice
from revstep.engine.program.samplers import SAMPLERS, UniPC, make_sampler
from revstep.engine.program.samplers.choice import choice_of, chosen_sampler
from revstep.schedules import VPSchedule

CHOICE = SamplerChoice("unipc", {"order": 3, "disable_corrector": [0, 1]}, "diffusers")


def spec(**fields):
    return DenoiserSpec(shape=(2,), schedule=VPSchedule(), prediction="epsilon", **fields)


def test_a_choice_comes_back_from_json_equal_and_hashed_alike():
    read = DenoiserSpec.from_dict(json.loads(json.dumps(spec(sampler=CHOICE).to_dict())))
    assert read == spec(sampler=CHOICE)
    assert hash(read) == hash(spec(sampler=CHOICE))
    assert read.sampler.options["disable_corrector"] == (0, 1)
    assert read != spec(sampler=SamplerChoice("unipc", {"order": 2}, "diffusers"))


def test_a_spec_without_a_choice_is_written_as_before():
    assert "sampler" not in spec().to_dict()
    assert DenoiserSpec.from_dict(spec().to_dict()).sampler is None


def test_its_options_cannot_change():
    given = {"order": 3}
    choice = SamplerChoice("unipc", given)
    given["order"] = 1
    assert choice.options == {"order": 3}
    with pytest.raises(TypeError):
        choice.options["order"] = 1
    assert copy.deepcopy(choice) == pickle.loads(pickle.dumps(choice)) == choice
    assert repr(choice.options) == "{'order': 3}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("uni pc",), "a sampler choice's name"),
        (("unipc", [3]), "a sampler's options maps names to values"),
        (("unipc", {"order": {}}), "options must be .* got dict"),
        (("unipc", {}, "comfy"), "compat"),
    ],
)
def test_what_is_no_choice_is_refused(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        SamplerChoice(*arguments)


def test_a_spec_takes_no_name_for_a_choice():
    with pytest.raises(TypeError, match="sampler must be a SamplerChoice or None; got str"):
        spec(sampler="unipc")


@pytest.mark.parametrize("values", [{"name": "ddim"}, {"name": 3, "options": {}, "compat": None}])
def test_json_that_is_no_choice_is_refused(values):
    with pytest.raises((TypeError, ValueError), match="the sampler choice"):
        DenoiserSpec.from_dict({**spec().to_dict(), "sampler": values})


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_the_choice_of_its_name(name):
    choice = choice_of(make_sampler(name), "diffusers")
    assert choice == SamplerChoice(name, {}, "diffusers")


def test_a_choice_has_the_options_that_are_no_defaults():
    choice = choice_of(UniPC(order=3, disable_corrector=(0,)))
    assert choice == SamplerChoice("unipc", {"order": 3, "disable_corrector": (0,)})
    with pytest.raises(ValueError, match="no sampler of"):
        choice_of(lambda run: run.x)


@pytest.mark.parametrize(
    ("name", "options", "own", "want"),
    [
        (None, {}, None, SamplerChoice("ddim")),
        (None, {"eta": 0.5}, None, SamplerChoice("ddim", {"eta": 0.5})),
        (None, {}, CHOICE, CHOICE),
        (
            None, {"order": 2}, CHOICE,
            SamplerChoice("unipc", {"order": 2, "disable_corrector": (0, 1)}, "diffusers"),
        ),
        ("unipc", {"order": 2}, CHOICE, SamplerChoice("unipc", {"order": 2})),
    ],
)  # fmt: skip
def test_options_without_a_name_change_those_of_the_specs_sampler(name, options, own, want):
    assert chosen_sampler(name, options, own) == want


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ValueError, match="nope"):
        chosen_sampler("nope", {}, None)
    with pytest.raises(ValueError, match="no option"):
        chosen_sampler(None, {"eta": 1.0}, CHOICE)
