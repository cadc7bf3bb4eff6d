"""Requests with raw inputs, prompts and pictures: what they give is what the parts give by hand."""

import copy
import pickle

import encoders
import numpy as np
import pytest
import torch

import revstep
from revstep.engine.parts.encoders import Encoders
from revstep.errors import ArgumentError, ArgumentTypeError

RUN = {"steps": 5, "seed": 3}


@pytest.fixture(scope="module")
def observing(observing_bundle):
    return revstep.load(observing_bundle)


@pytest.fixture(scope="module")
def reading(reading_bundle):
    return revstep.load(reading_bundle)


def observation(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": rng.standard_normal((n, *encoders.IMAGE), np.float32),
        "state": rng.standard_normal((n, *encoders.STATE), np.float32),
    }


def encoded(inputs):
    """The module's own output."""
    module = encoders.observing().encoders["observation"].eval()
    with torch.no_grad():
        return module(*(torch.from_numpy(v) for v in inputs.values())).numpy()


def test_an_encoder_gives_what_its_module_gives(observing):
    inputs = observation(3)
    found = observing.encode(inputs)
    np.testing.assert_allclose(found["context"], encoded(inputs), atol=1e-5)


def test_a_run_of_inputs_is_the_run_of_their_conditions(observing):
    inputs = observation(3)
    context = observing.encode(inputs)["context"]
    assert np.ptp(context, axis=0).max() > 0.1
    want = observing.sample(conditions={"context": context}, **RUN).x
    got = observing.sample(inputs=inputs, **RUN).x
    np.testing.assert_array_equal(got, want)
    assert len(got) == 3
    assert not np.array_equal(got, observing.sample(inputs=observation(3, 1), **RUN).x)


def test_one_observation_serves_all_samples(observing):
    inputs = {name: value[0] for name, value in observation(1).items()}
    many = observing.sample(4, inputs=inputs, **RUN).x
    context = observing.encode(inputs)["context"]
    assert context.shape == (encoders.WIDTH,)
    want = observing.sample(4, conditions={"context": context}, **RUN).x
    np.testing.assert_array_equal(many, want)


def test_a_prepared_run_takes_other_inputs(observing):
    run = observing.prepare(inputs=observation(2), **RUN)
    np.testing.assert_array_equal(run().x, observing.sample(inputs=observation(2), **RUN).x)
    other = observation(2, 5)
    np.testing.assert_array_equal(run(inputs=other).x, observing.sample(inputs=other, **RUN).x)


def test_a_prompt_is_what_its_tokens_are(reading):
    tokens = [[1, 4, 6, 0, 0, 0], [1, 3, 11, 8, 9, 7]]
    prompts = ["red house", "a cat under the tree"]
    assert prompts[1].split() == [encoders.WORDS[k - 3] for k in tokens[1][1:]][:5]
    np.testing.assert_array_equal(
        reading.sample(prompt=prompts, **RUN).x,
        reading.sample(inputs={"tokens": tokens}, **RUN).x,
    )


def test_guidance_leads_away_from_the_empty_prompt_or_the_negative_one(reading):
    prompt, empty = reading.encode(prompt="red house"), reading.encode(prompt="")
    negative = reading.encode(prompt="blue tree")
    run = {"guidance": 3.0, **RUN}
    for given, null in (({}, empty), ({"negative_prompt": "blue tree"}, negative)):
        want = reading.sample(2, conditions=prompt, null_conditions=null, **run).x
        got = reading.sample(2, prompt="red house", **given, **run).x
        np.testing.assert_array_equal(got, want)


def test_without_a_prompt_the_empty_one_is_meant(reading):
    np.testing.assert_array_equal(reading.sample(2, **RUN).x, reading.sample(2, prompt="", **RUN).x)


def pictures(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, 3, 8, 8)).astype(np.float32)


def test_pictures_become_the_latents_that_the_module_gives(reading, tmp_path):
    module = encoders.reading(tmp_path).picture_encoder
    with torch.no_grad():
        want = 0.5 * module(torch.from_numpy(pictures(2))).numpy()
    np.testing.assert_allclose(reading.encode_pictures(pictures(2)), want, atol=1e-5)
    assert reading.encode_pictures(pictures(1)[0]).shape == (2, 4, 4)


def test_bytes_and_images_are_the_decoders_range(reading):
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)
    want = reading.encode_pictures(np.moveaxis(pixels, -1, 0) / 255 * 2.0 - 1.0)
    for given in (pixels, image.fromarray(pixels)):
        np.testing.assert_allclose(reading.encode_pictures(given), want, atol=1e-6)
    two = reading.encode_pictures([image.fromarray(pixels)] * 2)
    np.testing.assert_allclose(two[1], want, atol=1e-6)


def test_a_start_and_known_pixels_may_be_pictures(reading):
    latents = reading.encode_pictures(pictures(2))
    mask = np.zeros((8, 8))
    mask[:, :4] = 1
    small = mask[::2, ::2]
    for name, more, same in (
        ("start", {"strength": 0.6}, {"strength": 0.6}),
        ("known", {"mask": mask}, {"mask": small}),
    ):
        got = reading.sample(2, prompt="a dog", **{name: pictures(2)}, **more, **RUN).x
        want = reading.sample(2, prompt="a dog", **{name: latents}, **same, **RUN).x
        np.testing.assert_array_equal(got, want)


def test_encodings_are_kept_where_that_is_asked_for(reading_bundle):
    engine = revstep.load(reading_bundle, keep_encodings=2)
    network = engine._encoder.encoders._networks["text"]
    calls = []
    engine._encoder.encoders._networks["text"] = lambda inputs: (
        calls.append(len(inputs["tokens"])) or network(inputs)
    )
    first = engine.encode(prompt=["red house", "a dog", "red house"])
    again = engine.encode(prompt=["a dog", "red house"])
    assert calls == [2]  # each content once
    np.testing.assert_array_equal(first["sequence"][[1, 2]], again["sequence"])
    engine.encode(prompt=["the moon"])  # "a dog" goes: it was used longest ago
    engine.encode(prompt=["red house"])
    assert calls == [2, 1]
    engine.encode(prompt=["a dog"])
    assert calls == [2, 1, 1]


def test_a_reproducible_engine_encodes_each_row_alone(observing_bundle):
    engine = revstep.load(observing_bundle, reproducible=True)
    inputs = observation(5)
    whole = engine.encode(inputs)["context"]
    for row in range(5):
        alone = engine.encode({k: v[row : row + 1] for k, v in inputs.items()})["context"]
        np.testing.assert_array_equal(whole[row], alone[0])


def test_copies_encode_too(observing):
    for made in (copy.copy(observing), pickle.loads(pickle.dumps(observing))):
        np.testing.assert_array_equal(
            made.sample(inputs=observation(1), **RUN).x,
            observing.sample(inputs=observation(1), **RUN).x,
        )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"inputs": {"imag": 0}}, "unknown name in inputs: imag; did you mean 'image'"),
        ({"inputs": {"image": np.zeros((2, 8, 8))}}, r"'image' has shape \(2, 8, 8\); allowed"),
        ({"inputs": observation(2) | {"state": np.zeros((3, 5))}}, "different numbers of rows"),
        ({"inputs": {"image": np.zeros((1, 8, 8))}}, "needs its input 'state' too; pass inputs="),
        ({}, "'context' is missing, which encoder 'observation' gives; pass inputs=.*'image'"),
        ({"prompt": "hello"}, "takes any; its encoders take: image, state"),
        ({"inputs": observation(2), "conditions": {"context": np.zeros(8)}}, "leave one out"),
        ({"inputs": observation(2), "guidance": 2.0}, "null value for context.*pass null_inputs="),
        ({"inputs": {"image": np.full((1, 8, 8), np.nan), "state": np.zeros(5)}}, "NaN"),
        ({"inputs": observation(2), "height": 8}, "height is for pictures"),
    ],
)  # fmt: skip
def test_what_an_encoder_does_not_take_is_refused_before_any_work(observing, given, said):
    with pytest.raises(ArgumentError, match=said):
        observing.sample(**given)
    with (
        revstep.Service(observing, warm_up=False) as service,
        pytest.raises(ArgumentError, match=said),
    ):
        service.submit(**given)


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"prompt": 3}, ArgumentTypeError, "prompt must be a text, or a list of texts"),
        ({"prompt": []}, ArgumentError, "prompt is an empty list; give a text, or a list"),
        ({"prompt": ["a", 5]}, ArgumentTypeError, "or a list of texts.*; got a list with int 5"),
        ({"prompt": "a", "inputs": {"tokens": [1] * 6}}, ArgumentError, "prompt gives the input"),
        ({"prompt": "a", "height": 16}, ArgumentError, r"8 x 8.*--size 16x8"),
        ({"prompt": "a", "width": 0}, ArgumentError, "width"),
        ({"n": 3, "prompt": ["a", "b"]}, ArgumentError, "prompt is a list of 2 for 3 samples"),
        (
            {"prompt": ["a", "b"], "negative_prompt": ["c"], "guidance": 2.0},
            ArgumentError,
            "negative_prompt is a list of 1 for 2 samples",
        ),
        (
            {"start": np.zeros((1, 3, 5, 5)), "strength": 0.5},
            ArgumentError,
            r"start has shape \(1, 3, 5, 5\); allowed: pictures .*, latents",
        ),
        ({"inputs": {"tokens": [30] * 6}}, ArgumentError, "holds 30; allowed: 0 to 29"),
    ],
)
def test_a_prompt_that_cannot_be_is_refused(reading, given, error, said):
    with pytest.raises(error, match=said):
        reading.sample(**given)


def test_a_trace_that_cannot_be_is_refused_before_anything_is_encoded(reading_bundle, monkeypatch):
    def run(*_):
        raise AssertionError

    monkeypatch.setattr(Encoders, "run", run)
    with pytest.raises(ArgumentError, match="trace_x0 asks for step 9"):
        revstep.load(reading_bundle).sample(prompt="a", trace_x0=[9], **RUN)


def test_an_engine_without_encoders_says_so(policy_bundle):
    engine = revstep.load(policy_bundle)
    with pytest.raises(ArgumentError, match="its encoders take: there are none"):
        engine.sample(prompt="a")
    with pytest.raises(ArgumentError, match="there is nothing to encode"):
        engine.encode()
    with pytest.raises(ArgumentError, match="no picture encoder"):
        engine.encode_pictures(np.zeros((3, 8, 8)))


def test_services_encode_between_steps(reading):
    prompts = ["red house", "the moon", "a cat under a tree", "blue dog"]
    with revstep.Service(reading, slots=6) as service:
        jobs = [
            service.submit(2, prompt=text, guidance=2.0, negative_prompt="dog", steps=4 + k, seed=k)
            for k, text in enumerate(prompts)
        ]
        jobs.append(service.submit(1, start=pictures(1), strength=0.5, prompt="a", **RUN))
        found = [job.result(60) for job in jobs]
    for k, text in enumerate(prompts):
        want = reading.sample(
            2, prompt=text, guidance=2.0, negative_prompt="dog", steps=4 + k, seed=k
        )
        np.testing.assert_allclose(found[k].x, want.x, atol=1e-4)
        np.testing.assert_array_equal(found[k].seeds, want.seeds)
    want = reading.sample(1, start=pictures(1), strength=0.5, prompt="a", **RUN)
    np.testing.assert_allclose(found[-1].x, want.x, atol=1e-4)


def test_an_encoder_that_fails_fails_its_request_alone(reading_bundle):
    engine = revstep.load(reading_bundle)
    network = engine._encoder.encoders._networks["text"]

    def failing(inputs):
        if (inputs["tokens"] == 12).any():
            raise RuntimeError("no dogs")
        return network(inputs)

    engine._encoder.encoders._networks["text"] = failing
    with revstep.Service(engine) as service:
        bad, good = service.submit(prompt="dog", **RUN), service.submit(prompt="cat", **RUN)
        with pytest.raises(RuntimeError, match="no dogs"):
            bad.result(60)
        assert good.result(60).x.shape == (1, 2, 4, 4)


def test_live_encoders_follow_their_weights():
    found = encoders.observing()
    module = found.encoders["observation"]
    engine = revstep.from_module(found.module, found.spec, encoders={"observation": module})
    inputs = observation(2)
    np.testing.assert_allclose(engine.encode(inputs)["context"], encoded(inputs), atol=1e-6)
    assert module.training
    with torch.no_grad():
        module.linear.bias += 1.0
    assert not np.allclose(engine.encode(inputs)["context"], encoded(inputs), atol=1e-2)
    assert engine.sample(inputs=inputs, **RUN).x.shape == (2, 4, 2)


def test_a_live_module_without_its_encoders_takes_conditions():
    found = encoders.observing()
    engine = revstep.from_module(found.module, found.spec)
    assert engine.sample(2, conditions={"context": np.zeros(8)}, **RUN).x.shape == (2, 4, 2)
    with pytest.raises(ArgumentError, match="unknown name in inputs"):
        engine.sample(inputs=observation(1))
    with pytest.raises(ValueError, match="has no encoder observer; did you mean 'observation'"):
        revstep.from_module(found.module, found.spec, encoders={"observer": found.module})


def test_a_null_condition_is_given_or_encoded_not_both(reading):
    null = reading.encode(prompt="dog")
    with pytest.raises(ArgumentError, match="the null condition 'pooled' is given, and 'tokens'"):
        reading.sample(prompt="a", negative_prompt="cat", null_conditions=null, guidance=2.0, **RUN)


def test_a_condition_that_is_given_is_kept_where_its_encoder_must_give_another(reading):
    empty = reading.encode(prompt="")
    pooled = {"pooled": np.full(encoders.WIDTH, 3.0, np.float32)}
    got = reading.sample(2, conditions=pooled, **RUN).x
    np.testing.assert_array_equal(got, reading.sample(2, conditions=empty | pooled, **RUN).x)
    assert not np.array_equal(got, reading.sample(2, conditions=empty, **RUN).x)


def test_a_prepared_run_keeps_the_inputs_that_a_call_leaves_out(observing):
    inputs, other = observation(2), observation(2, 5)
    run = observing.prepare(inputs=inputs, **RUN)
    want = observing.sample(inputs=inputs | {"state": other["state"]}, **RUN).x
    np.testing.assert_array_equal(run(inputs={"state": other["state"]}).x, want)
    context = observing.encode(inputs)
    with pytest.raises(ArgumentError, match="leave one out"):
        run(inputs={"state": other["state"]}, conditions=context)


def test_nothing_is_encoded_for_what_cannot_run(observing_bundle):
    engine = revstep.load(observing_bundle)
    engine._encoder.encoders._networks["observation"] = lambda inputs: pytest.fail("encoded")
    for wrong in ({"seed": [1, 2, 3]}, {"steps": 0}, {"sampler": "flow_map"}, {"guidance": 2.0}):
        with pytest.raises((ValueError, revstep.errors.ProgramError)):
            engine.sample(inputs=observation(2), **wrong)


def test_two_encoders_may_share_a_tokenizers_file():
    from revstep import Condition, Encoder, Tokenizer
    from revstep.engine.parts.encoders import Encoders, Raw

    class Words:
        def __init__(self, spec):
            self.spec = spec

        def encode(self, prompts):
            return {self.spec.ids: np.full((len(prompts), self.spec.length), 1, np.int64)}

    made = tuple(
        Encoder(
            name=name,
            inputs=(Condition(name=f"{name}_ids", shape=(k,), dtype="int64", null=0),),
            conditions=(f"{name}_out",),
            tokenizers=(Tokenizer(ids=f"{name}_ids", length=k, pad=0),),
        )
        for name, k in (("one", 2), ("two", 3))
    )
    spec = revstep.DenoiserSpec(
        shape=(4,), schedule=revstep.schedules.VPSchedule(), prediction="epsilon", encoders=made,
        conditions=tuple(Condition(name=f"{e.name}_out", shape=(2,)) for e in made),
    )  # fmt: skip
    found = Encoders(spec, {}, Words).plan(Raw(prompt="a"))
    assert [list(piece.inputs) for piece in found.half] == [["one_ids"], ["two_ids"]]


def test_pictures_of_a_wrong_size_are_refused_at_submit(reading):
    image = pytest.importorskip("PIL.Image")
    with (
        revstep.Service(reading, warm_up=False) as service,
        pytest.raises(ArgumentError, match="picture of 9 x 8"),
    ):
        service.submit(1, start=image.new("RGB", (9, 8)), prompt="a", **RUN)
