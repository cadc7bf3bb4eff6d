"""A diffusion policy: from raw observations to the raw actions that its own code plans."""

import sys

import numpy as np
import pytest
from example_files import EXAMPLES, imported
from trainers import ROUNDING, asserts_time_matters, bundled, distance, lively

import revstep

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def example():
    sys.path.insert(0, str(EXAMPLES / "trainers"))
    try:
        yield imported("trainers/diffusion_policy.py")
    finally:
        sys.path.remove(str(EXAMPLES / "trainers"))
        sys.modules.pop("diffusion_policy_network", None)


@pytest.fixture(scope="module")
def policy(example):
    torch.manual_seed(0)  # of the biases, which lively keeps: fp16's error depends on them
    return lively(example.Policy(), seed=3)


@pytest.fixture(scope="module")
def observed(example):
    """(pictures, states, the noise that the plan begins with) of two robots."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 2, 3, 32, 32, generator=generator)
    return image, *(torch.randn(2, *shape, generator=generator) for shape in ((2, 4), (16, 2)))


@pytest.fixture(scope="module")
def engines(example, policy, tmp_path_factory):
    parts = example.from_policy(policy)
    path = tmp_path_factory.mktemp("policy") / "policy.revstep"
    return list(
        bundled(path, parts.module, parts.spec, encoders=parts.encoders, decoder=parts.decoder)
    )


def planned(engine, image, state, noise, **options):
    return engine.sample(
        2, noise=noise.numpy(), inputs={"image": image.numpy(), "state": state.numpy()}, **options
    )


@pytest.mark.parametrize("steps", [8, 16])
def test_the_engine_plans_as_the_policy_from_raw_observations(steps, policy, observed, engines):
    with torch.no_grad():
        want = policy.predict_action(*observed, steps=steps)
    for engine, bound in engines:
        got = planned(engine, *observed, steps=steps)
        assert distance(got.numpy(), want) < bound
        assert distance(got.x * 50.0, want) > 0.1  # in -1 .. 1 still


def test_every_observation_counts(example, policy, observed, engines):
    image, state, noise = observed
    (engine, _), *_ = engines
    plans = [
        planned(engine, *changed, noise, steps=8).numpy()
        for changed in ((image, state), (1 - image, state), (image, -state))
    ]
    assert distance(plans[1], plans[0]) > 0.01
    assert distance(plans[2], plans[0]) > 0.01
    module = example.from_policy(policy)
    asserts_time_matters(module.module, module.spec, torch.zeros(2, 40))


def test_the_encoders_vectors_may_be_given_too(example, policy, observed, engines):
    image, state, noise = observed
    (engine, _), *_ = engines
    vectors = engine.encode(inputs={"image": image.numpy(), "state": state.numpy()})
    with torch.no_grad():
        assert distance(vectors["observation"], policy.encoder(image, state)) < ROUNDING
    got = engine.sample(2, noise=noise.numpy(), conditions=vectors, steps=8)
    np.testing.assert_array_equal(got.numpy(), planned(engine, *observed, steps=8).numpy())


def test_noise_from_the_clipped_estimate_is_another_plan(policy, observed, engines):
    (engine, _), *_ = engines
    with torch.no_grad():
        want = policy.predict_action(*observed, steps=16)
    sampler = revstep.samplers.DDIM(epsilon="rederive")
    got = planned(engine, *observed, steps=16, sampler=sampler, compat="diffusers")
    assert distance(got.numpy(), want) > 0.1


def test_the_factory_is_one(example, monkeypatch):
    from revstep.export.sources.factory import load_checkpoint

    monkeypatch.chdir(EXAMPLES / "trainers")
    assert load_checkpoint("diffusion_policy:build").spec.encoders[0].name == "observation"
