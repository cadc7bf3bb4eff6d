import dataclasses
import inspect
import pickle

import numpy as np
import pytest

from revstep import Condition, DenoiserSpec, Engine, Request
from revstep.engine.runtime.request import checked_seed, sample_seeds
from revstep.engine.runtime.resolve import batch_of
from revstep.errors import ArgumentError
from revstep.schedules import VPSchedule

SPEC = DenoiserSpec(
    shape=(2, 3),
    schedule=VPSchedule(),
    prediction="epsilon",
    conditions=(
        Condition(name="label", dtype="int64", null=5, classes=6),
        Condition(name="obs", shape=(4,), null=0.0),
    ),
)
BARE = DenoiserSpec(shape=(2, 3), schedule=VPSchedule(), prediction="epsilon")
NEEDY = DenoiserSpec(
    shape=(2,), schedule=VPSchedule(), prediction="epsilon", conditions=(Condition(name="obs"),)
)


def make_batch(given, n, **arguments):
    return batch_of(given, Request(n=n, **arguments))


def test_int_seed_counts_up_and_wraps():
    np.testing.assert_array_equal(sample_seeds(7, 3), np.array([7, 8, 9], np.uint64))
    top = (1 << 64) - 1
    np.testing.assert_array_equal(sample_seeds(top, 2), np.array([top, 0], np.uint64))
    assert sample_seeds(0, 1)[0] == 0
    np.testing.assert_array_equal(sample_seeds((3, top), 2), np.array([3, top], np.uint64))


@pytest.mark.parametrize("name", ["start", "known"])
def test_a_pictures_bytes_are_no_data(name):
    picture = np.full((2, 3), 200, np.uint8)
    given = {name: picture} if name == "start" else {name: picture, "mask": np.ones((2, 3))}
    with pytest.raises(TypeError, match=rf"{name} is uint8, .* such as x / 255 \* 2 \+ -1"):
        make_batch(BARE, 1, **given)


PICTURES = dataclasses.replace(BARE, shape=(1, 4, 4), value_range=(0.0, 1.0))


@pytest.mark.parametrize("name", ["start", "known"])
@pytest.mark.parametrize("n", [1, 2])
def test_a_pictures_bytes_as_floats_are_no_data_of_a_known_range(name, n):
    pictures = np.linspace(0, 255, n * 16).reshape(n, 1, 4, 4)
    given = {name: pictures} if name == "start" else {name: pictures, "mask": np.ones((4, 4))}
    says = rf"{name} holds values of 0 to 255; .* in 0 to 1 here: give x / 255 \* 1 \+ 0"
    with pytest.raises(ArgumentError, match=says):
        make_batch(PICTURES, n, **given)
    make_batch(PICTURES, n, **{**given, name: pictures / 255})
    make_batch(dataclasses.replace(PICTURES, value_range=None), n, **given)


def test_data_that_is_no_picture_has_any_values():
    plan = dataclasses.replace(BARE, shape=(8, 2), value_range=(-1.0, 1.0))
    make_batch(plan, 2, start=np.full((2, 8, 2), 57.0))
    stations = dataclasses.replace(BARE, shape=(57, 4, 4), value_range=(-1.0, 1.0))
    make_batch(stations, 1, start=np.full((57, 4, 4), 57.0))


def test_drawn_seeds_differ_between_calls():
    assert sample_seeds(None, 1)[0] != sample_seeds(None, 1)[0]


@pytest.mark.parametrize(
    ("seed", "n", "error", "message"),
    [
        (-1, 1, ValueError, "allowed: whole numbers, 0 to .* = 2\\^64 - 1"),
        (1 << 64, 1, ValueError, "out of range"),
        (1.5, 1, TypeError, "must be an int"),
        ("7", 1, TypeError, "must be an int"),
        (True, 1, TypeError, "must be an int"),
        ([1, 2.0], 2, TypeError, "seed must be a whole number"),
        ([1, 2], 3, ValueError, "2 seeds for 3 samples"),
    ],
)
def test_bad_seeds_are_refused(seed, n, error, message):
    with pytest.raises(error, match=message):
        sample_seeds(checked_seed(seed), n)


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 1),
        ({"seed": [1, 2, 3]}, 3),
        ({"conditions": {"label": [0, 1]}}, 2),
        ({"conditions": {"obs": np.zeros((5, 4))}}, 5),
        ({"start": np.zeros((3, 2, 3))}, 3),
        ({"noise": np.zeros((2, 3))}, 1),
        ({"n": 4, "conditions": {"label": 2}}, 4),
        ({"mask": np.ones((4, 1, 3)), "known": np.zeros((2, 3))}, 4),
        ({"mask": np.ones(3), "known": np.zeros((6, 2, 3))}, 6),
    ],
)
def test_count_is_what_the_arguments_say(arguments, count):
    n = arguments.pop("n", None)
    assert make_batch(SPEC, n, **arguments).n == count


def test_left_out_conditions_are_null_and_one_value_serves_all():
    batch = make_batch(SPEC, 3, conditions={"obs": np.arange(4)})
    np.testing.assert_array_equal(batch.conditions["label"], [5, 5, 5])
    np.testing.assert_array_equal(batch.conditions["obs"], np.tile(np.arange(4.0), (3, 1)))
    assert batch.conditions["obs"].dtype == np.float32


def test_torch_tensors_with_gradients_or_bf16_are_values():
    torch = pytest.importorskip("torch")
    obs = torch.ones(2, 4, dtype=torch.bfloat16, requires_grad=True)
    batch = make_batch(SPEC, None, conditions={"obs": obs, "label": torch.tensor([1, 2])})
    np.testing.assert_array_equal(batch.conditions["obs"], np.ones((2, 4), np.float32))
    assert batch.conditions["label"].tolist() == [1, 2]


def test_parts_cut_every_array():
    batch = make_batch(
        SPEC, 5, seed=0, conditions={"label": [0, 1, 2, 3, 4]}, guidance=[1, 2, 1, 3, 1]
    )
    part = batch.part(1, 4)
    assert (part.start, part.noise, part.mask, part.known) == (None,) * 4
    np.testing.assert_array_equal(part.seeds, [1, 2, 3])
    np.testing.assert_array_equal(part.conditions["label"], [1, 2, 3])
    np.testing.assert_array_equal(part.guided, [0, 2])
    assert part.rows == 5
    known = np.arange(30.0, dtype=np.float32).reshape(5, 2, 3)
    masks = known % 2
    part = make_batch(SPEC, 5, seed=0, mask=masks, known=known, noise=known).part(3, 5)
    np.testing.assert_array_equal(part.mask, masks[3:])
    np.testing.assert_array_equal(part.known, known[3:])
    np.testing.assert_array_equal(part.noise, known[3:])
    np.testing.assert_array_equal(part.start, (masks * known)[3:])


@pytest.mark.parametrize(
    ("spec", "arguments", "error", "message"),
    [
        (SPEC, {"n": 0}, ValueError, "n=0 is out of range; allowed: whole numbers, 1 or more"),
        (SPEC, {"n": 2.0}, TypeError, "whole number"),
        (SPEC, {"conditions": {"colour": 1}}, ValueError, "allowed: label, obs"),
        (SPEC, {"conditions": {"label": 6}}, ValueError, "holds 6; allowed: 0 to 5"),
        (SPEC, {"conditions": {"label": -1}}, ValueError, "holds -1"),
        (SPEC, {"conditions": {"label": 1.0}}, TypeError, "must be integers"),
        (
            SPEC,
            {"conditions": {"label": np.uint64(2**63 + 1)}},
            ValueError,
            "holds 9223372036854775809;",
        ),
        (
            SPEC,
            {"conditions": {"label": 2**63 + 1}},
            ValueError,
            "an integer is at most 2\\^63 - 1",
        ),
        (SPEC, {"conditions": {"label": 2**64}}, TypeError, "must be integers"),
        (SPEC, {"n": 2, "conditions": {"label": [1, 2, 3]}}, ValueError, r"shape \(3,\); allowed"),
        (SPEC, {"conditions": {"obs": np.zeros(3)}}, ValueError, r"allowed: \(1, 4\), or \(4,\)"),
        (SPEC, {"conditions": {"obs": [np.nan] * 4}}, ValueError, "NaN or infinity"),
        (SPEC, {"conditions": {"obs": [1e300] * 4}}, ValueError, "beyond float32"),
        (SPEC, {"conditions": {"obs": ["a"] * 4}}, TypeError, "must be numbers"),
        (SPEC, {"conditions": np.zeros(3)}, TypeError, "conditions maps names to values"),
        (SPEC, {"conditions": {"obs": [[1, 2], [3]]}}, TypeError, "can't be read as an array"),
        (SPEC, {"null_conditions": {"x": 0}}, ValueError, "null_conditions: x"),
        (SPEC, {"guidance": 2.0}, ValueError, "without conditions changes nothing"),
        (SPEC, {"n": 2, "guidance": [1.0, 2.0, 3.0]}, ValueError, "one per sample"),
        (SPEC, {"guidance": np.inf}, ValueError, "finite"),
        (SPEC, {"start": np.zeros((3, 3))}, ValueError, "start has shape"),
        (SPEC, {"noise": np.zeros(6)}, ValueError, "noise has shape"),
        (BARE, {"guidance": 2.0}, ValueError, "takes no conditions"),
        (NEEDY, {}, ValueError, "'obs' is missing"),
        (NEEDY, {"conditions": {"obs": 1.0}, "guidance": 2.0}, ValueError, "null value for obs"),
    ],
)
def test_bad_arguments_are_refused(spec, arguments, error, message):
    n = arguments.pop("n", 1)
    with pytest.raises(error, match=message):
        make_batch(spec, n, **arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n": 0}, ValueError, "n=0 is out of range"),
        ({"n": True}, TypeError, "n must be a whole number"),
        ({"sampler": "ddin"}, ValueError, "unknown sampler 'ddin'; did you mean 'ddim'"),
        ({"sampler": 3}, TypeError, "sampler must be a name"),
        ({"steps": 2.0}, TypeError, "steps must be a whole number"),
        ({"seed": [1, "2"]}, TypeError, "seed must be a whole number"),
        ({"guidance_weight": 0.5}, TypeError, "guidance_weight must be a function"),
        ({"conditions": [1]}, TypeError, "conditions maps names"),
        ({"null_conditions": 1}, TypeError, "null_conditions maps names"),
        ({"start": 0.0, "strength": 0}, ValueError, r"strength=0 is out of range.*\(0, 1\]"),
        ({"strength": 0.5}, ValueError, "strength goes with start"),
        ({"mask": 1}, ValueError, "mask needs the pixels"),
        ({"known": 1}, ValueError, "known goes with mask"),
        ({"grid": "wide"}, ValueError, "unknown grid 'wide'"),
        ({"grid": 3}, TypeError, "grid must be a name"),
        ({"compat": "diffuser"}, ValueError, "unknown compat .*'diffusers'"),
        ({"compat": ["diffusers"]}, TypeError, "compat must be a name or None"),
        ({"clip": 1}, TypeError, "clip must be True or False"),
        ({"final": "second"}, ValueError, "unknown final"),
    ],
)
def test_a_request_refuses_what_no_spec_is_needed_to_refuse(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        Request(**arguments)
    assert caught.value.argument == [*arguments][-1]


def test_a_request_can_be_sent_and_changed_but_not_edited():
    start = np.zeros(SPEC.shape, np.float32)
    given = {"label": 3}
    request = Request(n=np.int64(2), seed=np.array([4, 5]), start=start, conditions=given)
    given["label"] = 4
    assert (request.n, request.seed, request.conditions) == (2, (4, 5), {"label": 3})
    assert request.start is start  # nothing big is copied
    again = pickle.loads(pickle.dumps(request))
    assert (again.n, again.seed, again.resolved_sampler) == (2, (4, 5), request.resolved_sampler)
    np.testing.assert_array_equal(again.start, start)
    more = dataclasses.replace(request, n=3, seed=0, sampler="unipc")
    assert (more.n, more.seed, repr(more.resolved_sampler)[:5]) == (3, 0, "UniPC")
    with pytest.raises(ValueError, match="n=0 is out of range"):
        dataclasses.replace(request, n=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.n = 3


def test_a_request_has_the_arguments_of_sample_and_their_defaults():
    arguments = inspect.signature(Engine.sample).parameters
    for field in dataclasses.fields(Request):
        if field.init:
            assert arguments[field.name].default == field.default
    others = {"self", "batch_size", "progress", "on_step", "cancel", "timing", "unsupported"}
    assert set(arguments) - {f.name for f in dataclasses.fields(Request)} == others


@pytest.mark.parametrize(
    ("value", "argument"),
    [
        ({"n": 3, "conditions": {"label": 7}}, "conditions"),
        ({"conditions": {"colour": 7}}, "conditions"),
        ({"n": 2, "noise": np.zeros(3)}, "noise"),
        ({"n": 2, "guidance": [1.0, 2.0, 3.0]}, "guidance"),
        ({"n": 2, "seed": [1, 2, 3]}, "seed"),
        ({"start": np.full((2, 3), np.nan)}, "start"),
    ],
)
def test_what_a_spec_refuses_names_its_argument(value, argument):
    with pytest.raises(ArgumentError) as caught:
        batch_of(SPEC, Request(**value))
    assert caught.value.argument == argument
