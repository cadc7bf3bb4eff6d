"""The model without a server: what it copies, answers, refuses and cancels."""

import json
import threading

import fake_triton
import numpy as np
import pytest
from kserve import tensors

import revstep
from revstep.errors import ArgumentError
from revstep.serve.triton import model as room
from revstep.serve.triton.model import SamplingModel
from revstep.serve.triton.settings import Settings

WAIT_S = 60


@pytest.fixture
def make_model():
    """Makes a model of a bundle, as Triton would, and closes it in the end."""
    made = []

    def make(bundle, **settings):
        class Model(SamplingModel):
            folder = bundle.parent
            triton = fake_triton

        parameters = Settings(bundle=bundle.name, threads=1, **settings).parameters()
        config = {"parameters": {p["key"]: p["value"] for p in parameters}}
        made.append(Model())
        made[-1].initialize(
            {"model_config": json.dumps(config), "model_instance_kind": "CPU",
             "model_instance_device_id": "0"}
        )  # fmt: skip
        return made[-1]

    yield make
    for one in made:
        one.finalize()


def ask(model, *requests):
    assert model.execute(requests) is None
    for request in requests:
        request.release()
    for request in requests:
        assert request.answered.wait(WAIT_S)
    return [request.response for request in requests]


def test_requests_keep_their_values_when_triton_takes_its_memory_back(make_model, policy_bundle):
    model = make_model(policy_bundle, deterministic=True)
    engine = revstep.load(policy_bundle, reproducible=True, threads=1)
    # more samples than slots: most wait when Triton takes its memory back
    rng = np.random.default_rng(0)
    cases = [
        {"seed": i, "steps": 3 + i, "noise": rng.normal(size=(40, 8, 2)).astype(np.float32)}
        for i in range(3)
    ] + [
        {"seed": i, "steps": 6, "start": rng.normal(size=(40, 8, 2)).astype(np.float32),
         "mask": np.tile(np.float32([1.0, 0.5]), (40, 8, 1))}
        for i in range(3)
    ]  # fmt: skip
    seen = rng.normal(size=(6, 40, 4)).astype(np.float32)

    def given(i):  # Triton's own memory
        return {name: np.copy(value) for name, value in cases[i].items()}

    requests = [
        fake_triton.Request(**tensors(n=40, **given(i), conditions__observation=seen[i].copy()))
        for i in range(6)
    ]
    for i, response in enumerate(ask(model, *requests)):
        assert response.error is None
        wanted = engine.sample(40, **cases[i], conditions={"observation": seen[i]})
        np.testing.assert_array_equal(response.outputs["samples"], wanted.x, strict=True)
        np.testing.assert_array_equal(response.outputs["seeds"], wanted.seeds, strict=True)
        assert response.outputs["calls"].tolist() == [wanted.calls]


def test_one_value_is_for_all_samples(make_model, policy_bundle):
    model = make_model(policy_bundle, deterministic=True)
    engine = revstep.load(policy_bundle, reproducible=True, threads=1)
    observation = np.ones((1, 4), np.float32)
    noise = np.random.default_rng(0).normal(size=(1, 8, 2)).astype(np.float32)
    request = fake_triton.Request(
        **tensors(n=3, seed=4, steps=4, guidance=[1.5], noise=noise.copy(),
                  conditions__observation=observation.copy())
    )  # fmt: skip
    (response,) = ask(model, request)
    wanted = engine.sample(
        3, seed=4, steps=4, guidance=1.5, noise=noise[0], conditions={"observation": observation[0]}
    )
    np.testing.assert_array_equal(response.outputs["samples"], wanted.x, strict=True)


def test_only_what_is_asked_for_is_sent_and_decoded(make_model, image_bundle):
    model = make_model(image_bundle)
    decoded = []
    original = model.service.engine._decoder
    model.service.engine._decoder = lambda x: decoded.append(len(x)) or original(x)
    asked = tensors(seed=1, steps=2)
    (states,) = ask(model, fake_triton.Request(outputs=["states"], **asked))
    assert set(states.outputs) == {"states"}
    assert decoded == []
    (both,) = ask(model, fake_triton.Request(**tensors(seed=1, steps=2)))
    assert set(both.outputs) == {"samples", "states", "seeds", "calls"}
    assert decoded == [1]
    assert both.outputs["samples"].shape == (1, 3, 16, 16)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 51}, "steps=51 is out of range; this model takes 50 at most"),
        ({"n": 5}, "a request for 5 samples is too large; this model takes 4 at most"),
        ({"seed": [1, 2, 3, 4, 5]}, "a request for 5 samples is too large"),
        ({"conditions__observation": np.zeros((5, 4), np.float32)}, "a request for 5 samples"),
        ({"noise": np.zeros((5, 8, 2), np.float32)}, "a request for 5 samples is too large"),
        ({"sampler": b"\xff"}, "sampler must be UTF-8 text"),
        ({"sampler_options": b"[1]"}, 'a JSON object such as {"eta": 0.5}; got list'),
        ({"conditions__observation": np.full((1, 4), np.nan, np.float32)}, "observation"),
        ({"noise": np.full((1, 8, 2), np.nan, np.float32)}, "noise"),
    ],
)
def test_wrong_arguments_are_answered_and_the_next_request_runs(
    make_model, policy_bundle, wrong, message
):
    model = make_model(policy_bundle, max_steps=50, max_samples=4)
    good = fake_triton.Request(**tensors(n=4, steps=50))
    refused, done = ask(model, fake_triton.Request(**tensors(**wrong)), good)
    assert refused.error.code == fake_triton.TritonError.INVALID_ARG
    assert message in refused.error.message
    assert done.error is None
    assert done.outputs["samples"].shape == (4, 8, 2)


def test_a_caller_that_left_is_cancelled(make_model, demo_bundle):
    model = make_model(demo_bundle)
    left = fake_triton.Request(**tensors(n=64, steps=1000))  # more than a minute's work
    stays = fake_triton.Request(**tensors(seed=1, steps=2))
    model.execute([left, stays])
    left.cancelled = True
    assert left.answered.wait(WAIT_S)
    assert stays.answered.wait(WAIT_S)
    assert left.response.error.code == fake_triton.TritonError.CANCELLED
    assert stays.response.error is None
    assert model.service.stats().outcomes["cancelled"] == 1


def test_a_sender_is_not_looked_at_once_its_response_goes(make_model, policy_bundle, monkeypatch):
    monkeypatch.setattr(room, "LOOK_S", 0.0)  # as often as it can; the fake asserts
    model = make_model(policy_bundle)
    requests = [fake_triton.Request(**tensors(seed=i, steps=2)) for i in range(200)]
    for response in ask(model, *requests):
        assert response.error is None
    assert model._watch.is_alive()


def test_a_full_queue_is_unavailable(make_model, policy_bundle):
    model = make_model(policy_bundle, max_queue=1, slots=1)
    requests = [fake_triton.Request(**tensors(seed=i, steps=100)) for i in range(20)]
    codes = [r.error and r.error.code for r in ask(model, *requests)]
    assert codes[0] is None
    assert fake_triton.TritonError.UNAVAILABLE in codes
    assert set(codes) == {None, fake_triton.TritonError.UNAVAILABLE}


def test_finalize_answers_what_it_has_and_ends_its_threads(make_model, policy_bundle):
    before = set(threading.enumerate())
    model = make_model(policy_bundle)
    requests = [fake_triton.Request(**tensors(seed=i, steps=50)) for i in range(20)]
    model.execute(requests)
    model.finalize()
    assert all(r.answered.is_set() and r.response.error is None for r in requests)
    assert set(threading.enumerate()) <= before
    late = fake_triton.Request(**tensors(seed=1))
    (refused,) = ask(model, late)
    assert refused.error.code == fake_triton.TritonError.UNAVAILABLE


def test_a_failing_network_is_answered_as_internal(make_model, policy_bundle, monkeypatch):
    model = make_model(policy_bundle)

    def lost(*_, **__):
        raise OSError("the disk is gone")

    monkeypatch.setattr(model.service, "submit", lost)
    (refused,) = ask(model, fake_triton.Request(**tensors(seed=1)))
    assert refused.error.code == fake_triton.TritonError.INTERNAL
    assert refused.error.message == "the disk is gone"


def test_a_triton_that_misreads_arrays_is_refused(make_model, policy_bundle, monkeypatch):
    class Misread(fake_triton.Tensor):
        @classmethod
        def from_dlpack(cls, name, tensor):
            return cls(name, np.zeros_like(tensor.as_numpy()))

    monkeypatch.setattr(fake_triton, "Tensor", Misread)
    with pytest.raises(RuntimeError, match=r"built for NumPy 1, .* 'numpy<2'"):
        make_model(policy_bundle)


def test_a_gpu_instance_asks_for_that_gpu(policy_bundle, monkeypatch):
    asked = {}

    def load(path, **options):
        asked.update(options, path=path)
        raise ArgumentError("enough")

    monkeypatch.setattr(room, "load", load)

    class Model(SamplingModel):
        folder = policy_bundle.parent
        triton = fake_triton

    model = Model()
    args = {"model_config": "{}", "model_instance_kind": "GPU", "model_instance_device_id": "2"}
    with pytest.raises(ArgumentError):
        model.initialize(args)
    assert asked["device"] == "cuda:2"
    assert asked["path"] == policy_bundle.parent / "bundle.revstep"
    model.finalize()  # Triton calls it whatever happened
