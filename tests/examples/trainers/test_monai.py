"""MONAI 1.6: the engine's samples are those of DiffusionInferer with its DDIM or rectified flow."""

import numpy as np
import pytest
from example_files import imported
from trainers import ROUNDING, asserts_time_matters, bundled, distance, library, lively

import revstep

library("monai")
torch = pytest.importorskip("torch")
example = imported("trainers/monai_diffusion.py")
inferers = library("monai.inferers")

CONTEXT = revstep.Condition(name="context", shape=(2, 6), null=-1.0)
CLASSES = revstep.Condition(name="class_labels", dtype="int64", classes=3)
CONCAT = revstep.Condition(name="concat", shape=(1, 8, 8))
SEED = 2  # a network that doesn't blow rounding up: that of 1 turns 1e-7 of the noise into 4e-3
PREDICTIONS = ("epsilon", "sample", "v_prediction")


def unet(**options):
    own = {
        "spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": (8, 16),
        "num_res_blocks": 1, "attention_levels": (False, True), "norm_num_groups": 4,
        "num_head_channels": 8,
    }  # fmt: skip
    return lively(example.DiffusionModelUNet(**own | options), SEED)


def ddim():
    return example.DDIMScheduler(1000, prediction_type="v_prediction")


def own(network, scheduler, steps, shape=(1, 8, 8), **conditioning):
    """(the library's samples, their initial noise)."""
    scheduler.set_timesteps(steps)
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    inferer = inferers.DiffusionInferer(scheduler)
    samples = inferer.sample(noise, network, scheduler, verbose=False, **conditioning)
    return samples.numpy(), noise.numpy()


def engine_of(network, scheduler, shape=(1, 8, 8), conditions=()):
    module, spec = example.from_monai(network, scheduler, shape, conditions)
    if not conditions:
        asserts_time_matters(module, spec)
    return revstep.from_module(module, spec, device="cpu")


SCHEDULERS = {
    **{
        f"ddim-{prediction}-{schedule}": (
            lambda p=prediction, s=schedule: example.DDIMScheduler(1000, s, prediction_type=p)
        )
        for prediction in PREDICTIONS
        for schedule in ("linear_beta", "cosine", "sigmoid_beta")
    },
    "ddim-offset": lambda: example.DDIMScheduler(
        1000, "scaled_linear_beta", steps_offset=1, set_alpha_to_one=False
    ),
    "ddim-unclipped": lambda: example.DDIMScheduler(
        1000, "linear_beta", clip_sample=False, prediction_type="v_prediction"
    ),
    "ddim-range": lambda: example.DDIMScheduler(1000, clip_sample_min=-0.5, clip_sample_max=2.0),
    "flow": lambda: example.RFlowScheduler(1000),
    "flow-short": lambda: example.RFlowScheduler(300),
}


@pytest.mark.parametrize("steps", [20, 27])  # 27 does not divide 1000
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_engine_equals_the_inferer(name, steps):
    network, scheduler = unet(), SCHEDULERS[name]()
    want, noise = own(network, scheduler, steps)
    engine = engine_of(network, scheduler)
    got = engine.sample(2, noise=noise, **example.own_sampling(scheduler)).x
    # rounding of a predicted noise comes out 1 / alpha times as large: 158 at index 999
    # and a step of the library's own rounds by about as much as the bound
    bound = (5 if scheduler.prediction_type == "epsilon" else 2) * ROUNDING
    assert distance(got, want) < bound


def test_guidance_fills_the_context_as_the_inferer_does():
    network = unet(with_conditioning=True, cross_attention_dim=6)
    scheduler = ddim()
    context = torch.randn(2, 2, 6, generator=torch.Generator().manual_seed(3))
    want, noise = own(network, scheduler, 10, conditioning=context, cfg=3.0)
    engine = engine_of(network, scheduler, conditions=(CONTEXT,))
    arguments = {"noise": noise, "conditions": {"context": context.numpy()}}
    arguments |= example.own_sampling(scheduler)
    assert distance(engine.sample(2, guidance=3.0, **arguments).x, want) < ROUNDING
    assert distance(engine.sample(2, **arguments).x, want) > 0.01


def test_a_picture_may_be_further_channels():
    network, scheduler = unet(in_channels=2), ddim()
    picture = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    want, noise = own(network, scheduler, 10, conditioning=picture, mode="concat")
    engine = engine_of(network, scheduler, conditions=(CONCAT,))
    got = engine.sample(
        2, noise=noise, conditions={"concat": picture.numpy()}, **example.own_sampling(scheduler)
    ).x
    assert distance(got, want) < ROUNDING


def test_class_labels_reach_the_network():
    network, scheduler = unet(num_class_embeds=3), ddim()
    labels = torch.tensor([2, 0])
    scheduler.set_timesteps(10)
    noise = x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for t in scheduler.timesteps:
            x, _ = scheduler.step(network(x, t[None], class_labels=labels), int(t), x)
    engine = engine_of(network, scheduler, conditions=(CLASSES,))
    got = engine.sample(
        2, noise=noise.numpy(), conditions={"class_labels": labels.numpy()},
        **example.own_sampling(scheduler),
    ).x  # fmt: skip
    assert distance(got, x) < ROUNDING


def test_volumes_are_states_too():
    network, scheduler = unet(spatial_dims=3), ddim()
    want, noise = own(network, scheduler, 5, (1, 8, 8, 8))
    engine = engine_of(network, scheduler, (1, 8, 8, 8))
    got = engine.sample(2, noise=noise, **example.own_sampling(scheduler)).x
    assert distance(got, want) < ROUNDING


@pytest.mark.parametrize(
    "make",
    [
        ddim,
        pytest.param(lambda: example.RFlowScheduler(1000), marks=pytest.mark.slow),
    ],
)
def test_a_bundle_in_half_and_in_float_equals_the_inferer(make, tmp_path):
    network, scheduler = unet(), make()
    want, noise = own(network, scheduler, 20)
    parts = example.from_monai(network, scheduler, (1, 8, 8))
    for engine, bound in bundled(tmp_path / "unet.revstep", *parts):
        got = engine.sample(2, noise=noise, **example.own_sampling(scheduler)).x
        assert distance(got, want) < bound


def test_its_ddim_keeps_the_noise_of_a_clipped_estimate():
    network, scheduler = unet(), example.DDIMScheduler(1000)
    want, noise = own(network, scheduler, 20)
    arguments = {
        **example.own_sampling(scheduler),
        "sampler": revstep.samplers.DDIM(epsilon="rederive"),
    }
    got = engine_of(network, scheduler).sample(2, noise=noise, **arguments).x
    assert distance(got, want) > 0.01


def test_its_steps_go_another_way_than_its_grid():
    """Of 27 calls at 999, 961, 922, ... each goes 37 indices down: to 962, 924, 885, ..."""
    network, scheduler = unet(), example.DDIMScheduler(1000)
    want, noise = own(network, scheduler, 27)
    arguments = {**example.own_sampling(scheduler), "compat": None}
    got = engine_of(network, scheduler).sample(2, noise=noise, **arguments).x
    assert distance(got, want) > 0.01


@pytest.mark.parametrize("kind", ["learned", "learned_range"])
def test_a_learned_variance_is_refused_with_its_reason(kind):
    scheduler = example.DDPMScheduler(1000, variance_type=kind)
    with pytest.raises(ValueError, match="MONAI mixes the variances themselves"):
        example.from_monai(unet(out_channels=2), scheduler, (1, 8, 8))


def test_ddpm_is_trained_with_and_sampled_by_others():
    scheduler = example.DDPMScheduler(1000)
    with pytest.raises(ValueError, match="sample with a DDIMScheduler"):
        example.own_sampling(scheduler)
    module, spec = example.build()
    assert spec.prediction == "epsilon"
    engine = revstep.from_module(module, spec, device="cpu")
    assert np.isfinite(engine.sample(1, steps=2, seed=0).x).all()
