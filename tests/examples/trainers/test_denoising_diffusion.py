"""denoising-diffusion-pytorch 2.3: the engine's samples are the library's own, or are refused."""

import numpy as np
import pytest
from example_files import imported
from trainers import ROUNDING, bundled, distance, library, lively, seeded

import revstep

ddp = library("denoising_diffusion_pytorch")
torch = pytest.importorskip("torch")
example = imported("trainers/denoising_diffusion.py")

STEPS = 27  # does not divide 1000: the library cuts indices where others round them


def unet(**options):
    return lively(ddp.Unet(dim=16, dim_mults=(1, 2), channels=1, **options))


def pictures(objective="pred_v", betas="sigmoid", network=None, size=8, **options):
    options = {"sampling_timesteps": STEPS, **options}
    return ddp.GaussianDiffusion(
        network or unet(), image_size=size, objective=objective,
        beta_schedule=betas, **options,
    ).eval()  # fmt: skip


def unet_1d():
    return lively(ddp.Unet1D(dim=16, dim_mults=(1, 2), channels=2), seed=2)


def series(objective="pred_noise", network=None, **options):
    return ddp.GaussianDiffusion1D(
        network or unet_1d(),
        seq_length=16,
        objective=objective,
        sampling_timesteps=STEPS,
        **options,
    ).eval()


def karras():
    """The network of Karras et al. 2024, figure 21 G; its last gain begins at 0."""
    network = ddp.KarrasUnet(
        image_size=16, dim=8, dim_max=16, channels=1, num_downsamples=1, num_blocks_per_stage=1,
        attn_res=(8,), attn_dim_head=8, fourier_dim=8,
    )  # fmt: skip
    return pictures(network=lively(network), size=16)


def own(diffusion, n=2):
    """(the library's samples in -1 .. 1, the initial noise over sigma_T)."""
    _, spec = example.from_gaussian_diffusion(diffusion)
    samples, noise = seeded(lambda: diffusion.sample(n), (n, *spec.shape))
    assert np.mean((samples <= 0) | (samples >= 1)) < 0.95  # clipping, and what it doesn't hide
    _, last = spec.schedule.alpha_sigma(spec.schedule.steps - 1)
    return 2 * samples - 1, noise / last  # the library starts at the noise, not at sigma_T times it


def engine_of(diffusion):
    return revstep.from_module(*example.from_gaussian_diffusion(diffusion), device="cpu")


CASES = {
    **{f"unet-{o}-{b}": (lambda o=o, b=b: pictures(o, b))
       for o in example.PREDICTIONS for b in ("linear", "cosine", "sigmoid")},
    **{f"unet1d-{o}": (lambda o=o: series(o)) for o in example.PREDICTIONS},
    "unet1d-linear": lambda: series("pred_v", beta_schedule="linear"),
    "karras": karras,
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_engine_equals_the_library(case):
    diffusion = CASES[case]()
    want, noise = own(diffusion)
    got = engine_of(diffusion).sample(2, noise=noise, **example.own_sampling(diffusion)).x
    assert distance(got, want) < ROUNDING


def test_channels_come_last_where_the_series_has_them_last():
    class Last(torch.nn.Module):
        channels, self_condition = 2, False

        def __init__(self):
            super().__init__()
            self.inner = unet_1d()

        def forward(self, x, t):
            return self.inner(x.transpose(1, 2), t).transpose(1, 2)

    diffusion = series(network=Last(), channel_first=False)
    want, noise = own(diffusion)
    assert want.shape == (2, 16, 2)
    got = engine_of(diffusion).sample(2, noise=noise, **example.own_sampling(diffusion)).x
    assert distance(got, want) < ROUNDING


def test_a_bundle_in_half_and_in_float_equals_the_library(tmp_path):
    diffusion = pictures()
    want, noise = own(diffusion)
    parts = example.from_gaussian_diffusion(diffusion)
    for engine, bound in bundled(tmp_path / "unet.revstep", *parts):
        got = engine.sample(2, noise=noise, **example.own_sampling(diffusion)).x
        assert distance(got, want) < bound


@pytest.mark.slow
@pytest.mark.parametrize("make", [series, karras])
def test_bundles_of_the_other_networks_equal_the_library(make, tmp_path):
    diffusion = make()
    want, noise = own(diffusion)
    parts = example.from_gaussian_diffusion(diffusion)
    for engine, bound in bundled(tmp_path / "unet.revstep", *parts):
        got = engine.sample(2, noise=noise, **example.own_sampling(diffusion)).x
        assert distance(got, want) < bound


def test_elucidated_diffusion_without_churn_equals_the_library():
    network = unet(learned_sinusoidal_cond=True)
    diffusion = ddp.ElucidatedDiffusion(
        network, image_size=8, channels=1, num_sample_steps=9, S_churn=0, sigma_data=0.4
    ).eval()
    module, spec = example.from_elucidated(diffusion)
    want, noise = seeded(lambda: diffusion.sample(2), (2, *spec.shape))
    engine = revstep.from_module(module, spec, device="cpu")
    got = engine.sample(2, noise=noise, steps=9).x
    assert distance(got, 2 * want - 1) < ROUNDING


def test_ancestral_sampling_is_the_default_where_the_library_draws_all_steps():
    diffusion = pictures(sampling_timesteps=None, timesteps=20)
    samples = engine_of(diffusion).sample(1, seed=0, **example.own_sampling(diffusion))
    assert (samples.sampler, samples.calls) == ("ddpm", 20)


@pytest.mark.parametrize("objective", example.PREDICTIONS)
def test_the_other_epsilon_is_another_result(objective):
    """1-D keeps the network's noise where it predicts noise; all else takes it from the clipped."""
    for diffusion in (pictures(objective), series(objective)):
        want, noise = own(diffusion)
        keeps = isinstance(diffusion, ddp.GaussianDiffusion1D) and objective == "pred_noise"
        sampler = revstep.samplers.DDIM(epsilon="rederive" if keeps else "keep")
        arguments = example.own_sampling(diffusion) | {"sampler": sampler}
        assert distance(engine_of(diffusion).sample(2, noise=noise, **arguments).x, want) > 0.01


def test_its_sigmoid_is_no_schedule_of_that_name_elsewhere():
    _, spec = example.from_gaussian_diffusion(pictures())
    levels = spec.schedule.level(np.arange(1000))
    np.testing.assert_allclose(
        levels, revstep.schedules.VPSchedule.sigmoid().level(np.arange(1000)), rtol=2e-4
    )
    diffusers = revstep.schedules.VPSchedule(betas="sigmoid").level(np.arange(1000))
    assert np.abs(np.log(levels / diffusers)).max() > 1.0


@pytest.mark.parametrize(
    "make",
    [
        lambda: pictures(network=unet(self_condition=True)),
        lambda: series(self_condition=True),
    ],
)
def test_self_conditioning_is_refused_with_its_reason(make):
    with pytest.raises(ValueError, match="feeds the last step's estimate of x0 back"):
        example.from_gaussian_diffusion(make())


def test_self_conditioning_left_out_is_another_result():
    """Why it is refused: the network runs without it, and says nothing."""
    diffusion = pictures(network=unet(self_condition=True))
    spec = revstep.DenoiserSpec(
        shape=(1, 8, 8), schedule=revstep.schedules.VPSchedule.sigmoid(),
        prediction="v_prediction", value_range=(-1, 1), clip=True,
    )  # fmt: skip
    want, noise = seeded(lambda: diffusion.sample(2), (2, 1, 8, 8))
    engine = revstep.from_module(diffusion.model, spec, device="cpu")
    got = engine.sample(2, noise=noise, **example.own_sampling(diffusion)).x
    assert distance(got, 2 * want - 1) > 0.3


@pytest.mark.parametrize(
    "make",
    [
        lambda: ddp.LearnedGaussianDiffusion(unet(learned_variance=True), image_size=8),
        lambda: ddp.WeightedObjectiveGaussianDiffusion(unet(out_dim=4), image_size=8),
        lambda: ddp.VParamContinuousTimeGaussianDiffusion(
            unet(learned_sinusoidal_cond=True), image_size=8, channels=1
        ),
    ],
)
def test_other_processes_are_refused_by_name(make):
    diffusion = make()
    with pytest.raises(ValueError, match=f"{type(diffusion).__name__} is another process"):
        example.from_gaussian_diffusion(diffusion)


def test_the_factory_is_one():
    module, spec = example.build()
    assert spec.shape == (1, 16, 16)
    engine = revstep.from_module(module, spec, device="cpu")
    assert np.isfinite(engine.sample(1, steps=2, seed=0).x).all()
